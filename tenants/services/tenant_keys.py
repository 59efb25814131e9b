"""A tenant's own keys: made, changed, destroyed (ADR 22). Making and changing need the wrapping key."""

from uuid import UUID

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from audit.context import SYSTEM, Actor
from audit.services import record
from tenants.models import ConnectorSecret, Tenant, TenantKey
from tenants.selectors import current_key, is_operator
from tenants.services.registry import TenantError
from tenants.services.secrets import erase, locked, note
from tenants.tenant_keys import DamagedError, new_pair, unwrap, wrap

State = TenantKey.State


@transaction.atomic
def tenant_key_ensure(tenant_id: UUID) -> TenantKey:
    """The tenant's current key, made now if there is none.

    Raises:
        TenantError: the tenant is offboarded.
        WrappingError: this process holds no wrapping key.
    """
    tenant = _locked(tenant_id)
    return current_key(tenant.pk) or _made(SYSTEM, tenant)


@transaction.atomic
def tenant_key_rotate(*, actor: Actor, tenant: Tenant) -> TenantKey:
    """A new key; all that is kept is wrapped with it, and the old private half is destroyed.

    What does not open, because somebody has changed it in the database, is marked and not carried over.

    Raises:
        TenantError: the tenant is offboarded.
        WrappingError: this process holds no wrapping key, or the present key does not open under it.
    """
    tenant = _locked(tenant.pk)
    kept = locked(tenant=tenant, state__in=ConnectorSecret.DELIVERABLE)
    opened = [(secret, _opened(secret)) for secret in kept]
    keys_destroy(actor=actor, tenant=tenant)
    new = _made(actor, tenant)
    for secret, sealed in opened:
        if sealed is None:
            erase([secret], ConnectorSecret.State.REFUSED, "damaged")
            note("secret.refused", SYSTEM, secret, code="damaged")
        else:
            wrapped = wrap(new, sealed, identity=secret.identity)
            ConnectorSecret.objects.filter(pk=secret.pk).update(wrapped=wrapped, tenant_key=new)
    return new


@transaction.atomic
def tenant_key_ask_rotation(*, actor: Actor, tenant: Tenant) -> None:
    """Have a worker rotate, for callers that hold no wrapping key. The sweeper finds the wish.

    Raises:
        TenantError: not an operator, or the tenant is offboarded or has no key yet.
    """
    tenant = _locked(tenant.pk)
    if actor.user is None or not is_operator(actor.user, tenant):
        raise TenantError("Only operators rotate tenant keys.")
    if not TenantKey.objects.filter(tenant=tenant, state=State.CURRENT).update(rotation_wanted=True):
        raise TenantError(f"{tenant.name} has no key yet. A worker makes it when its runtime is created.")
    record(action="tenant_key.rotation_asked", actor=actor, tenant_id=tenant.pk, target=("tenant", tenant.pk))


def keys_destroy(*, actor: Actor, tenant: Tenant) -> None:
    """Destroy the private half of ``tenant``'s key, in the transaction that holds the tenant's row."""
    for key in TenantKey.objects.select_for_update(of=("self",)).filter(tenant=tenant, state=State.CURRENT):
        TenantKey.objects.filter(pk=key.pk).update(
            state=State.DESTROYED, private_key=None, rotation_wanted=False, changed_at=timezone.now()
        )
        _record("tenant_key.destroyed", actor, key)


def _locked(tenant_id: UUID) -> Tenant:
    tenant = Tenant.objects.select_for_update().get(pk=tenant_id)
    if tenant.offboarded_at is not None:
        raise TenantError(f"{tenant.name} is offboarded. It gets no key any more.")
    return tenant


def _made(actor: Actor, tenant: Tenant) -> TenantKey:
    newest = TenantKey.objects.filter(tenant=tenant).aggregate(newest=Max("version"))["newest"] or 0
    key = TenantKey(tenant=tenant, version=newest + 1)
    key.public_key, key.private_key = new_pair(key.identity)
    key.save(force_insert=True)
    _record("tenant_key.made", actor, key)
    return key


def _opened(secret: ConnectorSecret) -> bytes | None:
    if secret.tenant_key is None or secret.wrapped is None:
        return None
    try:
        return unwrap(secret.tenant_key, secret.wrapped, identity=secret.identity)
    except DamagedError:
        return None


def _record(action: str, actor: Actor, key: TenantKey) -> None:
    record(
        action=action,
        actor=actor,
        tenant_id=key.tenant_id,
        target=("tenant_key", key.pk),
        data={"version": key.version, "public_key": key.public_key},
    )
