"""What people do to connector secrets: put a new version, revoke. Neither sees more than ciphertext."""

from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from audit.context import Actor
from audit.services import record
from protocol.sealed import KEY_ID, MAX_SECRET_BYTES, NAME, OVERHEAD_BYTES
from tenants.models import ConnectorSecret, Tenant
from tenants.selectors import current_key, is_operator, is_owner
from tenants.services.refusals import SecretRefused
from tenants.signals import secrets_changed
from tenants.tenant_keys import wrap

MAX_NAMES = 64
"""That a tenant may have. As in the guest: a revoked one counts, for its versions must not begin anew."""
State = ConnectorSecret.State


@transaction.atomic
def secret_put(
    *, actor: Actor, tenant: Tenant, name: str, connector: str, sealing_key: str, sealed: bytes
) -> ConnectorSecret:
    """Keep the next version of a secret, which its owner has sealed to the guest's key ``sealing_key``.

    Raises:
        SecretRefused: ``not_allowed``, ``bad_name``, ``bad_connector``, ``bad_value``, ``unknown_key``,
            ``no_tenant_key``, ``too_many`` or ``busy``.
    """
    # One lock for all that happens to a tenant's secrets and keys: two requests at once see each other.
    tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if actor.user is None or not is_owner(actor.user, tenant):
        raise SecretRefused(SecretRefused.NOT_ALLOWED, "Only the tenant's owners save secrets.")
    _check(name, connector, sealing_key, sealed)
    key = current_key(tenant.pk)
    if key is None:
        raise SecretRefused("no_tenant_key", "The tenant's key is being made. Try again in a few seconds.")
    versions = ConnectorSecret.objects.filter(tenant=tenant, name=name)
    if not versions.exists() and _names(tenant) >= MAX_NAMES:
        raise SecretRefused(
            "too_many", f"There are {MAX_NAMES} names, revoked ones included. Use one of them again."
        )
    secret = ConnectorSecret(
        tenant=tenant,
        name=name,
        connector=connector,
        version=1 + (versions.aggregate(newest=Max("version"))["newest"] or 0),
        sealing_key=sealing_key,
        tenant_key=key,
        created_by_id=actor.user.pk,
    )
    secret.wrapped = wrap(key, sealed, identity=secret.identity)
    try:
        with transaction.atomic():
            secret.save(force_insert=True)
    except IntegrityError:
        raise SecretRefused(
            "busy", "Somebody has just saved a secret of this name. Look, then save again."
        ) from None
    note("secret.put", actor, secret, connector=connector, sealing_key=sealing_key)
    secrets_changed.send(sender=ConnectorSecret, tenant_id=tenant.pk)
    return secret


@transaction.atomic
def secret_revoke(*, actor: Actor, tenant: Tenant, name: str) -> ConnectorSecret:
    """Erase what the portal keeps of a secret, and have the guest forget it. Again: nothing changes.

    Returns the version that the guest has to confirm, or has confirmed.

    Raises:
        ConnectorSecret.DoesNotExist: the tenant never had one of this name.
        SecretRefused: ``not_allowed``.
    """
    tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if actor.user is None or not (is_owner(actor.user, tenant) or is_operator(actor.user, tenant)):
        raise SecretRefused(
            SecretRefused.NOT_ALLOWED, "Only the tenant's owners and operators revoke secrets."
        )
    versions = list(locked(tenant=tenant, name=name))
    if not versions:
        raise ConnectorSecret.DoesNotExist
    live = [secret for secret in versions if secret.state in ConnectorSecret.LIVE]
    refused = [secret for secret in versions if secret.state == State.REFUSED]
    newest = (live or refused or versions)[0]
    if newest.state not in {*ConnectorSecret.DELIVERABLE, State.REFUSED}:
        return newest
    erase(refused, State.REVOKED)
    erase(live[1:], State.SUPERSEDED)
    erase(live[:1], State.REVOKING)
    note("secret.revoked", actor, newest)
    secrets_changed.send(sender=ConnectorSecret, tenant_id=tenant.pk)
    newest.refresh_from_db()
    return newest


def locked(**chosen: object) -> QuerySet[ConnectorSecret]:
    """Rows to be changed, locked in the one order that everybody keeps: by name, the newest version first.

    Never the tenant's row with them: whoever puts or rotates takes that one first, and a worker not at all.
    """
    rows = ConnectorSecret.objects.select_for_update(of=("self",)).filter(**chosen)
    return rows.order_by("tenant_id", "name", "-version")


def erase(secrets: list[ConnectorSecret], state: str, refusal: str = "") -> None:
    """Move to a state in which nobody may deliver the secret: its ciphertext goes in the same statement."""
    ConnectorSecret.objects.filter(pk__in=[secret.pk for secret in secrets]).update(
        state=state, wrapped=None, tenant_key=None, refusal=refusal, changed_at=timezone.now()
    )


def note(action: str, actor: Actor, secret: ConnectorSecret, **more: str) -> None:
    """An entry about one version. Never with its ciphertext."""
    record(
        action=action,
        actor=actor,
        tenant_id=secret.tenant_id,
        target=("secret", f"{secret.name}/{secret.version}"[:64]),
        data={"name": secret.name, "version": secret.version, **more},
    )


def check_name(name: str) -> None:
    """Whether a secret may be called that.

    Raises:
        SecretRefused: ``bad_name``.
    """
    if not NAME.fullmatch(name):
        raise SecretRefused(
            "bad_name", "Name it with 1 to 64 capital letters, digits and underscores; begin with a letter."
        )


def _check(name: str, connector: str, sealing_key: str, sealed: bytes) -> None:
    check_name(name)
    if connector not in ConnectorSecret.Connector.values:
        raise SecretRefused("bad_connector", "The pilot has one connector. Give github.")
    if not OVERHEAD_BYTES < len(sealed) <= MAX_SECRET_BYTES + OVERHEAD_BYTES:
        raise SecretRefused("bad_value", f"Seal a value of 1 to {MAX_SECRET_BYTES} bytes.")
    if not KEY_ID.fullmatch(sealing_key):
        raise SecretRefused(
            "unknown_key", "Give the key's id as the portal states it: 16 digits, 0 to 9 and a to f."
        )


def _names(tenant: Tenant) -> int:
    return ConnectorSecret.objects.filter(tenant=tenant).order_by().values("name").distinct().count()


def lost(tenant_id: UUID, refusal: str) -> None:
    """The guest that held a tenant's secrets is gone: nothing opens them. In the caller's transaction."""
    mine = list(locked(tenant=tenant_id, state__in=ConnectorSecret.LIVE))
    erase([secret for secret in mine if secret.state != State.REVOKING], State.REFUSED, refusal)
    erase([secret for secret in mine if secret.state == State.REVOKING], State.REVOKED)
