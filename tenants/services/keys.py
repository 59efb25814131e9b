"""Registering a person's public key for a tenant, and taking it away. Neither opens anything in a guest."""

from contextlib import suppress

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from django.db import transaction
from nacl.bindings import crypto_core_ed25519_is_valid_point

from audit.context import Actor
from audit.services import record
from protocol.persons import PersonKey
from tenants.models import MemberKey, Tenant
from tenants.selectors import current_keyring, is_member, is_owner
from tenants.services.refusals import MembersRefused

MAX_KEYS = 16
"""A person's, for one tenant."""
MAX_NAME = 80


@transaction.atomic
def key_register(
    *, actor: Actor, tenant: Tenant, kind: str, public_key: bytes, name: str, credential_id: str = ""
) -> MemberKey:
    """Note that ``actor`` holds this key. An owner's signature puts it into the keyring later.

    Raises:
        MembersRefused: ``not_allowed``, ``bad_name``, ``bad_key``, ``taken`` or ``too_many``.
    """
    # One lock for all that happens to a tenant's keys: two requests at once see each other.
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    if actor.user is None or not is_member(actor.user, tenant):
        raise MembersRefused(
            MembersRefused.NOT_ALLOWED,
            "Only members register keys here. Ask an owner or operator to add you.",
        )
    name = name.strip()
    check_name(name)
    check_key(kind, public_key)
    fingerprint = PersonKey(kind, public_key).fingerprint
    same = MemberKey.objects.filter(fingerprint=fingerprint)
    if same.filter(tenant=tenant, user=actor.user.pk).exists():
        raise MembersRefused("taken", "You have registered this key already.")
    # In no tenant: whoever signs in at the portal with a key is one person.
    if same.exclude(user=actor.user.pk).exists():
        raise MembersRefused("taken", "Somebody else has registered this key. Make a new one.")
    if MemberKey.objects.filter(tenant=tenant, user=actor.user.pk).count() >= MAX_KEYS:
        raise MembersRefused("too_many", f"You have {MAX_KEYS} keys here. Remove one first.")
    key = MemberKey.objects.create(
        tenant=tenant,
        user_id=actor.user.pk,
        kind=kind,
        public_key=public_key.hex(),
        fingerprint=fingerprint,
        credential_id=credential_id,
        name=name,
    )
    _record("key.registered", actor, key)
    return key


@transaction.atomic
def key_remove(*, actor: Actor, tenant: Tenant, fingerprint: str) -> None:
    """Forget a key: one's own, or any as an owner. Never one that the keyring names.

    Raises:
        MemberKey.DoesNotExist: no such key.
        MembersRefused: ``not_allowed`` or ``in_keyring``.
    """
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    key = MemberKey.objects.get(tenant=tenant, fingerprint=fingerprint)
    own = actor.user is not None and key.user_id == actor.user.pk
    if not own and not (actor.user is not None and is_owner(actor.user, tenant)):
        raise MembersRefused(MembersRefused.NOT_ALLOWED, "Only its holder and owners remove a key.")
    current = current_keyring(tenant)
    if current is not None and fingerprint in current.members:
        raise MembersRefused(
            "in_keyring", "The keyring names this key. An owner takes it out of the keyring first."
        )
    _record("key.removed", actor, key)
    key.delete()


@transaction.atomic
def key_forget(*, actor: Actor, key: MemberKey) -> None:
    """Remove a key with the account that holds it. The tenant's keyring, which its machine follows, stays."""
    _record("key.removed", actor, key)
    key.delete()


def check_name(name: str) -> None:
    """Whether ``name`` may stand on a page.

    Raises:
        MembersRefused: ``bad_name``.
    """
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise MembersRefused("bad_name", f"Give a name of 1 to {MAX_NAME} printable characters.")


def check_key(kind: str, public_key: bytes) -> None:
    """Whether guests can check signatures of this key, spelt the one way that there is.

    Raises:
        MembersRefused: ``bad_key``.
    """
    if kind == MemberKey.Kind.DEVICE:
        # Also refuses the few points for which anybody can make a signature.
        if len(public_key) == 32 and crypto_core_ed25519_is_valid_point(public_key):
            return
        raise MembersRefused(
            "bad_key", "This is no Ed25519 public key. Paste the 64 digits of the public half."
        )
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = load_der_public_key(public_key)
        accepted = isinstance(key, ed25519.Ed25519PublicKey) or (
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        )
        # One key has one spelling, and so one fingerprint.
        if accepted and key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == public_key:
            return
    raise MembersRefused("bad_key", "Use a passkey of P-256 or Ed25519.")


def _record(action: str, actor: Actor, key: MemberKey) -> None:
    record(
        action=action,
        actor=actor,
        tenant_id=key.tenant_id,
        target=("member_key", key.fingerprint),
        data={"fingerprint": key.fingerprint, "kind": key.kind, "user": str(key.user_id)},
    )
