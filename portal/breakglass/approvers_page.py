"""What staff see of approvers: the set in force, what is proposed, and which machines believe it."""

from typing import Any

from django.contrib.auth.models import User

from breakglass.models import GuestApprovers, SetProposal, TenantApprovers
from breakglass.people import names_person, open_proposals, read_set, seats, usable_passkeys
from breakglass.selectors import current_set
from breakglass.services.sets import may_propose, signers
from portal.breakglass.set_words import NUMBERS, changes, numbers
from protocol.approvers import ApproverSet
from provisioning.models import Runtime
from tenants.selectors import tenants_for

MANY = 100


def approvers_page(user: User) -> dict[str, Any]:
    """The page's context."""
    stored = current_set()
    current = read_set(stored)
    return {
        "stored": stored,
        "seats": seats(current) if current else [],
        "numbers": [(NUMBERS[name], number) for name, number in numbers(current).items()],
        "tight": current is not None and current.threshold == _people(current),
        "proposals": [_proposal(user, current, proposal) for proposal in open_proposals()],
        "may_propose": may_propose(user),
        "machines": _machines(user),
        "has_passkey": usable_passkeys(user).exists(),
    }


def _proposal(user: User, current: ApproverSet | None, proposal: SetProposal) -> dict[str, Any]:
    proposed = ApproverSet.parse(proposal.document)
    signed = signers(proposal)
    signing = current or proposed
    names = dict(User.objects.filter(pk__in=signed).values_list("pk", "username"))
    approver = names_person(signing, user.pk)
    return {
        "row": proposal,
        "seats": seats(proposed),
        "numbers": [(NUMBERS[name], number) for name, number in numbers(proposed).items()],
        "changes": changes(current, proposed),
        "signed": sorted(names.values()),
        "needed": signing.threshold,
        "may_sign": approver and user.pk not in signed,
        "may_withdraw": approver or proposal.by_id == user.pk,
        "tight": proposed.threshold == _people(proposed),
    }


def _machines(user: User) -> list[dict[str, Any]]:
    """Of the tenants that ``user`` may know of: what their owners and machines say."""
    found = tenants_for(user).filter(offboarded_at=None).order_by("name")
    tenants = list(found[:MANY])
    named = set(TenantApprovers.objects.filter(tenant__in=tenants).values_list("tenant", flat=True))
    stating = GuestApprovers.objects.filter(runtime__tenant__in=tenants).exclude(
        runtime__phase=Runtime.Phase.DELETED
    )
    stated = {row.runtime.tenant_id: row for row in stating.select_related("runtime")}
    return [
        {
            "tenant": tenant,
            "named": tenant.pk in named,
            "pinned": (stated[tenant.pk].stated or {}).get("approvers") if tenant.pk in stated else None,
            "terms": (stated[tenant.pk].stated or {}).get("terms") if tenant.pk in stated else None,
            "refused": stated[tenant.pk].refused if tenant.pk in stated else "",
        }
        for tenant in tenants
    ]


def _people(approvers: ApproverSet) -> int:
    return len({each.person for each in approvers.approvers.values()})
