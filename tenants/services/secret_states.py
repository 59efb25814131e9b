"""What a worker notes about connector secrets: what the guest says it holds, refuses, or has forgotten.

Each is a compare-and-swap on the row's state, and touches no lock but the rows': a secret that somebody
revokes while it is being delivered stays revoked.
"""

from django.db import transaction
from django.utils import timezone

from audit.context import SYSTEM
from tenants.models import ConnectorSecret, TenantKey
from tenants.selectors import current_key
from tenants.services.secrets import erase, locked, note
from tenants.tenant_keys import unwrap, wrap

State = ConnectorSecret.State


@transaction.atomic
def secret_open(secret: ConnectorSecret) -> bytes:
    """The sealed box as its owner sent it. Only for immediate delivery; nothing here can open it further.

    Raises:
        ConnectorSecret.DoesNotExist: nobody may deliver it any more.
        DamagedError: the row was changed by somebody.
        WrappingError: no wrapping key here, or the tenant's key was changed.
    """
    # Locked: a rotation of the tenant's key changes both columns together.
    row = locked(state__in=ConnectorSecret.DELIVERABLE).get(pk=secret.pk)
    if row.wrapped is None or row.tenant_key_id is None:
        raise ConnectorSecret.DoesNotExist
    return unwrap(TenantKey.objects.get(pk=row.tenant_key_id), row.wrapped, identity=row.identity)


@transaction.atomic
def secret_held(secret: ConnectorSecret) -> bool:
    """The guest holds this version: the ones before are gone there, and their ciphertext goes here."""
    known = locked(tenant=secret.tenant_id, name=secret.name, version__lte=secret.version)
    older = [one for one in known if one.version < secret.version]
    erase([one for one in older if one.state in ConnectorSecret.DELIVERABLE], State.SUPERSEDED)
    erase([one for one in older if one.state == State.REVOKING], State.REVOKED)
    return _moved(secret, State.WAITING, State.HELD, "secret.held")


@transaction.atomic
def secret_refused(secret: ConnectorSecret, code: str) -> None:
    """The guest does not take this version, for a reason that does not pass."""
    if rows := list(locked(pk=secret.pk, state__in=ConnectorSecret.DELIVERABLE)):
        erase(rows, State.REFUSED, code)
        note("secret.refused", SYSTEM, secret, code=code)


@transaction.atomic
def secret_forgotten(secret: ConnectorSecret) -> bool:
    """The guest has confirmed a revocation."""
    return _moved(secret, State.REVOKING, State.REVOKED, "secret.forgotten")


@transaction.atomic
def secret_resealed(secret: ConnectorSecret, sealing_key: str, sealed: bytes) -> bool:
    """Keep what the guest has sealed to its new key, in the place of what was sealed to the one before."""
    key = current_key(secret.tenant_id)
    if key is None:
        return False
    changed = ConnectorSecret.objects.filter(
        pk=secret.pk, state=State.HELD, sealing_key=secret.sealing_key, tenant_key=key
    ).update(sealing_key=sealing_key, wrapped=wrap(key, sealed, identity=secret.identity))
    if changed:
        note("secret.resealed", SYSTEM, secret, sealing_key=sealing_key)
    return bool(changed)


def _moved(secret: ConnectorSecret, before: str, after: str, action: str) -> bool:
    changed = ConnectorSecret.objects.filter(pk=secret.pk, state=before).update(
        state=after, changed_at=timezone.now()
    )
    if changed:
        note(action, SYSTEM, secret)
    return bool(changed)
