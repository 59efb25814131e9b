"""Who may ask for which operation. One table, checked inside the service."""

from audit.context import Actor
from provisioning.models import Operation
from tenants.models import Tenant
from tenants.selectors import is_operator, is_owner

Kind = Operation.Kind

OWNER_MAY = frozenset({Kind.START, Kind.STOP, Kind.RESTART, Kind.RESEAL})
"""What a tenant's owner may ask for. Operators may ask for everything."""


def may_request(actor: Actor, tenant: Tenant, kind: str) -> bool:
    """Whether ``actor`` may ask for ``kind`` on the tenant's runtime."""
    if actor.kind in {"system", "command"}:
        return True
    if actor.user is None:
        return False
    return is_operator(actor.user, tenant) or (kind in OWNER_MAY and is_owner(actor.user, tenant))
