"""What people do to connectors: staff allow and forbid, owners enable and disable within that.

Asked for again, nothing changes and nothing is recorded: the answer is the row as it is.
"""

from django.db import transaction
from django.utils import timezone

from audit.context import Actor
from audit.services import record
from tenants.connectors import CONNECTORS, PILOT, barred, open_connectors
from tenants.models import Tenant, TenantConnector
from tenants.selectors import is_operator, is_owner
from tenants.services.refusals import ConnectorRefused
from tenants.signals import connectors_changed

NOT_ALLOWED = ConnectorRefused.NOT_ALLOWED


@transaction.atomic
def connector_allow(*, actor: Actor, tenant: Tenant, connector: str) -> TenantConnector:
    """Let the tenant's owners enable ``connector``. Opens nothing yet.

    Raises:
        ConnectorRefused: ``not_allowed``, ``unknown_connector``, ``pilot`` or ``offboarded``.
    """
    row = _row(_for_staff(actor, tenant), connector)
    _check_guardrail(connector)
    if row.allowed:
        return row
    row.beyond_pilot = connector not in PILOT
    return _decided(row, actor, allowed=True)


@transaction.atomic
def connector_forbid(*, actor: Actor, tenant: Tenant, connector: str) -> TenantConnector:
    """Take that back, and disable ``connector`` with it.

    Raises:
        ConnectorRefused: ``not_allowed``, ``unknown_connector`` or ``offboarded``.
    """
    row = _row(_for_staff(actor, tenant), connector)
    if not row.allowed:
        return row
    if row.enabled:
        _switched(row, actor, enabled=False)
    row.beyond_pilot = False
    return _decided(row, actor, allowed=False)


@transaction.atomic
def connector_enable(*, actor: Actor, tenant: Tenant, connector: str) -> TenantConnector:
    """Let the tenant's machine reach ``connector``'s hosts.

    Raises:
        ConnectorRefused: ``not_allowed``, ``unknown_connector``, ``pilot`` or ``not_permitted`` (by staff).
    """
    row = _row(_for_owner(actor, tenant), connector)
    _check_guardrail(connector)
    if not row.allowed:
        told = f"Staff have not allowed {_name(connector)}. Ask an operator."
        raise ConnectorRefused("not_permitted", told)
    return row if row.enabled else _switched(row, actor, enabled=True)


@transaction.atomic
def connector_disable(*, actor: Actor, tenant: Tenant, connector: str) -> TenantConnector:
    """Shut ``connector``'s hosts off from the tenant's machine.

    Raises:
        ConnectorRefused: ``not_allowed`` or ``unknown_connector``.
    """
    row = _row(_for_owner(actor, tenant), connector)
    return _switched(row, actor, enabled=False) if row.enabled else row


def _for_staff(actor: Actor, tenant: Tenant) -> Tenant:
    operates = actor.user is not None and is_operator(actor.user, tenant)
    if not operates and actor.kind not in {"command", "system"}:
        raise ConnectorRefused(NOT_ALLOWED, "Only operators allow and forbid connectors.")
    locked = _locked(tenant)
    if locked.offboarded_at is not None:
        raise ConnectorRefused("offboarded", f"{locked.name} is offboarded. Nothing is open for it any more.")
    return locked


def _for_owner(actor: Actor, tenant: Tenant) -> Tenant:
    locked = _locked(tenant)
    if actor.user is None or not is_owner(actor.user, locked):
        raise ConnectorRefused(NOT_ALLOWED, "Only the tenant's owners enable and disable connectors.")
    return locked


def _locked(tenant: Tenant) -> Tenant:
    # One lock for all of a tenant's connectors: who enables and who forbids at once see each other.
    return Tenant.objects.select_for_update().get(pk=tenant.pk)


def _row(tenant: Tenant, connector: str) -> TenantConnector:
    if connector not in CONNECTORS:
        raise ConnectorRefused(
            "unknown_connector", f"There is no such connector. Give one of: {', '.join(CONNECTORS)}."
        )
    row = TenantConnector.objects.filter(tenant=tenant, connector=connector).first()
    return row or TenantConnector(tenant=tenant, connector=connector)


def _check_guardrail(connector: str) -> None:
    if barred(connector):
        names = ", ".join(_name(slug) for slug in open_connectors())
        raise ConnectorRefused("pilot", f"The pilot opens {names} only. {_name(connector)} comes later.")


def _name(connector: str) -> str:
    return CONNECTORS[connector].name


def _decided(row: TenantConnector, actor: Actor, *, allowed: bool) -> TenantConnector:
    row.allowed, row.allowed_at, row.allowed_by_id = allowed, timezone.now(), _person(actor)
    return _kept(row, actor, "allowed" if allowed else "forbidden")


def _switched(row: TenantConnector, actor: Actor, *, enabled: bool) -> TenantConnector:
    row.enabled, row.enabled_at, row.enabled_by_id = enabled, timezone.now(), _person(actor)
    return _kept(row, actor, "enabled" if enabled else "disabled")


def _person(actor: Actor) -> int | None:
    return actor.user.pk if actor.user is not None else None


def _kept(row: TenantConnector, actor: Actor, verb: str) -> TenantConnector:
    row.save()
    record(
        action=f"connector.{verb}",
        actor=actor,
        tenant_id=row.tenant_id,
        target=("connector", row.connector),
        data={"connector": row.connector},
    )
    connectors_changed.send(sender=TenantConnector, tenant_id=row.tenant_id)
    return row
