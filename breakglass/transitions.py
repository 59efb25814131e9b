"""The one table of how a ticket's state may change, and the one statement that changes it.

Every step is a single UPDATE whose WHERE holds the state, the revision, the database's time and who is
eligible. Two steps at once take the row one after the other; the later finds the state that the earlier left.
"""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Count, Exists, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce
from guardian.models import GroupObjectPermission, UserObjectPermission

from breakglass.clock import Clock
from breakglass.models import Approval, ApproverSetVersion, OwnerApproval, Passkey, TermsVersion, Ticket
from breakglass.standing import Standing
from provisioning.models import Runtime
from tenants.models import Tenant

State = Ticket.State

TABLE: Mapping[str, frozenset[str]] = {
    State.PENDING: frozenset(
        {State.APPROVED, State.REJECTED, State.WITHDRAWN, State.TIMED_OUT, State.REVOKED}
    ),
    State.APPROVED: frozenset({State.PENDING, State.ACTIVE, State.WITHDRAWN, State.TIMED_OUT, State.REVOKED}),
    State.ACTIVE: frozenset({State.ENDED, State.EXPIRED, State.REVOKED}),
}
"""State → those that may follow. What is not here is final."""

IN_TIME = Q(wait_until__gt=Clock())
WAITED_TOO_LONG = Q(wait_until__lte=Clock())
ACCESS_LASTS = Q(access_until__gt=Clock())
ACCESS_IS_OVER = Q(access_until__lte=Clock())

MACHINE_READY = Q(
    Exists(Runtime.objects.filter(pk=OuterRef("runtime"), phase=Runtime.Phase.READY)),
    Exists(Tenant.objects.filter(pk=OuterRef("tenant"), offboarded_at=None)),
)
"""There is a machine that a grant can reach: time that runs without one is nobody's access."""


def before(after: str) -> list[str]:
    """The states from which a ticket comes to ``after``."""
    return [state for state, following in TABLE.items() if after in following]


def move(
    ticket_id: UUID,
    after: str,
    *conditions: Q,
    allowed: Collection[str] | None = None,
    **fields: Any,
) -> bool:
    """Take the step if all conditions hold as the row is written; whether it was taken.

    ``allowed``: the states from which, where that is not all that the table has (an edit of one that waits).
    """
    states = before(after) if allowed is None else allowed
    asked = Ticket.objects.filter(*conditions, pk=ticket_id, state__in=states)
    return asked.update(state=after, **fields) == 1


def hold(ticket_id: UUID, *conditions: Q) -> bool:
    """Lock the ticket for the rest of the transaction, if all conditions hold; whether they did.

    Whoever comes next waits here, and so sees all that this transaction has written.
    """
    return Ticket.objects.filter(*conditions, pk=ticket_id).update(state=F("state")) == 1


def rests_on(standing: Standing) -> Q:
    """The set and the terms that the ticket is judged by are the newest there are."""
    later_set = ApproverSetVersion.objects.filter(version__gt=standing.row.version)
    later_terms = TermsVersion.objects.filter(tenant=OuterRef("tenant"), version__gt=standing.terms_version)
    return Q(approvers_set=standing.row) & ~Q(Exists(later_set)) & ~Q(Exists(later_terms))


def quorum(standing: Standing) -> Q:
    """As many different people as the ticket needs have approved this revision, and may still approve.

    Never the requester; with keys of the set that are in use; with accounts that are.
    """
    counted = (
        Approval.objects.filter(
            ticket=OuterRef("pk"),
            revision=OuterRef("revision"),
            passkey__retired_at=None,
            passkey__cloned_at=None,
            passkey__user__is_active=True,
            passkey__user__is_staff=True,
            passkey__public_key__in=standing.public_keys,
        )
        .exclude(passkey__user=OuterRef("requester"))
        .order_by()
        .values("ticket")
        .annotate(people=Count("person", distinct=True))
        .values("people")
    )
    return Q(needed__lte=Coalesce(Subquery(counted), Value(0)))


def owner_agrees(standing: Standing, kind: str) -> Q:
    """What the owner's terms say of this kind of ticket holds."""
    mode = standing.mode(kind)
    if mode == "approvers":
        return Q()
    if mode == "owner":
        signed = OwnerApproval.objects.filter(ticket=OuterRef("pk"), revision=OuterRef("revision"))
        return Q(Exists(signed))
    return Q(pk__in=[])


def requester_may(tenant: Tenant) -> Q:
    """The requester is still staff who may operate the tenant, with the passkey that asked in use."""
    named = {"permission__codename": "operate_tenant", "permission__content_type__app_label": "tenants"}
    own = UserObjectPermission.objects.filter(user=OuterRef("pk"), object_pk=str(tenant.pk), **named)
    groups = GroupObjectPermission.objects.filter(
        group__user=OuterRef("pk"), object_pk=str(tenant.pk), **named
    )
    everywhere = {"codename": "operate_tenant", "content_type__app_label": "tenants"}
    operators = User.objects.filter(pk=OuterRef("requester"), is_active=True, is_staff=True).filter(
        Q(is_superuser=True)
        | Q(Exists(User.user_permissions.through.objects.filter(user=OuterRef("pk"), **_through(everywhere))))
        | Q(Exists(_group_permissions(everywhere)))
        | Q(Exists(own))
        | Q(Exists(groups))
    )
    keys = Passkey.objects.filter(
        pk=OuterRef("passkey"), user=OuterRef("requester"), retired_at=None, cloned_at=None
    )
    return Q(tenant=tenant) & Q(Exists(operators)) & Q(Exists(keys))


def _through(named: Mapping[str, str]) -> dict[str, str]:
    return {f"permission__{name}": value for name, value in named.items()}


def _group_permissions(named: Mapping[str, str]) -> Any:
    found = {f"group__permissions__{name}": value for name, value in named.items()}
    return User.groups.through.objects.filter(user=OuterRef("pk"), **found)
