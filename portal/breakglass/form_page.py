"""The form of a ticket: what may be asked, how many must agree to it, and who they could be."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from guardian.shortcuts import get_objects_for_user

from breakglass.models import Passkey
from breakglass.selectors import approvers_of, current_set, emergency_debt, keys_in, keys_of_person
from portal.breakglass.asked import WORKSPACE, Asked
from portal.breakglass.rows import name_of
from portal.breakglass.words import DURATIONS, SCOPES, duration
from protocol import tickets
from tenants.models import Tenant

EMPTY = Asked("ordinary", "", "", [], [], tickets.DEFAULT_SECONDS)


def operated(user: User) -> QuerySet[Tenant]:
    """The tenants for whose machines ``user`` may ask."""
    if not (user.is_active and user.is_staff):
        return Tenant.objects.none()
    allowed: QuerySet[Tenant] = get_objects_for_user(user, "tenants.operate_tenant", Tenant)
    return allowed.filter(offboarded_at=None).order_by("name")


def keys_of(user: User) -> list[Passkey]:
    """The passkeys that ``user`` may sign with, the newest first."""
    return sorted(keys_of_person(user), key=lambda key: key.registered_at, reverse=True)


def form_page(user: User, tenant: Tenant | None, asked: Asked = EMPTY) -> dict[str, Any]:
    """What the form shows."""
    version = current_set()
    approvers = approvers_of(version)
    others = {key.user for key in keys_in(version).select_related("user")} - {user}
    policy = dict(approvers.policy) if approvers else {}
    return {
        "tenant": tenant,
        "asked": asked,
        "scopes": [
            {
                "code": code,
                "name": name,
                "opens": opens,
                "needs": policy.get(code, 0),
                "emergency": code in tickets.EMERGENCY_SCOPES,
                "paths": code in WORKSPACE,
                "chosen": code in asked.scopes,
            }
            for code, (name, opens) in SCOPES.items()
        ],
        "emergency_needs": policy.get("emergency", 0),
        "able": sorted(name_of(other) for other in others),
        "approvers": approvers,
        "keys": keys_of(user),
        "owed": emergency_debt(user),
        "durations": [(minutes, duration(minutes * 60)) for minutes in minutes_offered(asked)],
        "min_reason": tickets.MIN_REASON,
        "max_reason": tickets.MAX_REASON,
    }


def minutes_offered(asked: Asked) -> list[int]:
    """What the form offers, and what was asked before."""
    return sorted({*DURATIONS, asked.minutes})
