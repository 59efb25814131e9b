"""What a tenant's machine may reach, as people see it: how each connector stands, who changed it when."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.utils import timezone

from portal.secrets import present_runtime
from provisioning.selectors import egress_in_force
from tenants.connectors import CONNECTORS, Connector, barred
from tenants.models import Tenant, TenantConnector
from tenants.selectors import connectors_of, is_operator, is_owner

ON, OFF, FORBIDDEN, LATER = "enabled", "disabled", "forbidden", "later"
LABELS = {ON: ("On", "ready"), OFF: ("Off", ""), FORBIDDEN: ("Not allowed", ""), LATER: ("Later", "")}
"""By the state: its word on the page, and its colour as the style sheet knows it."""
FRESH = timedelta(minutes=1)
"""How long after a change the page asks often whether the proxy has taken it."""


@dataclass(frozen=True)
class Standing:
    """How a tenant stands to one connector."""

    spec: Connector
    row: TenantConnector

    @property
    def state(self) -> str:
        """``later`` while the pilot bars it, whatever the row says: then it opens nothing."""
        if barred(self.spec.slug):
            return LATER
        if not self.row.allowed:
            return FORBIDDEN
        return ON if self.row.enabled else OFF

    @property
    def changed_at(self) -> datetime | None:
        """When anybody last changed it."""
        return self.row.changed_at

    @property
    def change(self) -> str:
        """What was done last, and by whom. Staff are not named: tenants know the operator, not its people."""
        by_owner = self.row.enabled_at is not None and self.row.enabled_at == self.changed_at
        if self.changed_at is None:
            return ""
        if not by_owner:
            return "allowed by staff" if self.row.allowed else "forbidden by staff"
        who = self.row.enabled_by.username if self.row.enabled_by else "somebody who has left"
        return f"turned {'on' if self.row.enabled else 'off'} by {who}"


def standings(tenant: Tenant) -> list[Standing]:
    """One for each connector of the table."""
    return [Standing(CONNECTORS[row.connector], row) for row in connectors_of(tenant)]


def shut(tenant: Tenant, used: set[str]) -> list[str]:
    """The names of those connectors among ``used`` that the machine cannot reach."""
    return [one.spec.name for one in standings(tenant) if one.spec.slug in used and one.state != ON]


def in_force_since(tenant: Tenant) -> datetime | None:
    """Since when the proxy in front of the machine keeps to what the rows say; None while it does not."""
    return egress_in_force(tenant.pk)


def entry(standing: Standing) -> dict[str, Any]:
    """One connector, for the API."""
    row, spec = standing.row, standing.spec
    return {
        "connector": spec.slug,
        "name": spec.name,
        "state": standing.state,
        "allowed": row.allowed,
        "enabled": row.enabled,
        "change": standing.change,
        "changed_at": standing.changed_at.isoformat() if standing.changed_at else None,
        "reaches": [{"host": reach.host, "port": reach.port, "why": reach.why} for reach in spec.reaches],
    }


def connectors_page(person: AbstractBaseUser | AnonymousUser, tenant: Tenant) -> dict[str, Any]:
    """What the page shows, and what its reader can do next."""
    found = standings(tenant)
    runtime = present_runtime(tenant)
    since = in_force_since(tenant) if runtime else None
    owner, operator = is_owner(person, tenant), is_operator(person, tenant)
    changed = max(filter(None, (one.changed_at for one in found)), default=None)
    return {
        "rows": [_row(one, owner, operator) for one in found if one.state != LATER],
        "later": [one.spec for one in found if one.state == LATER],
        "runtime": runtime,
        "since": since,
        "owner": owner,
        "operator": operator,
        "unsettled": runtime is not None
        and runtime.egress
        and runtime.phase != runtime.Phase.QUARANTINED
        and since is None
        and changed is not None
        and timezone.now() - changed < FRESH,
    }


def _row(standing: Standing, owner: bool, operator: bool) -> dict[str, Any]:
    label, badge = LABELS[standing.state]
    switch = {ON: ("disable", "Turn off"), OFF: ("enable", "Turn on")}.get(standing.state)
    verdict = ("forbid", "Forbid") if standing.row.allowed else ("allow", "Allow")
    return {
        "spec": standing.spec,
        "state": standing.state,
        "label": label,
        "badge": badge,
        "change": standing.change,
        "changed_at": standing.changed_at,
        "buttons": [*([switch] if owner and switch else []), *([verdict] if operator else [])],
    }
