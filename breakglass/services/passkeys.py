"""A staff person's passkeys: one per device, registered by their holder, retired for good.

A passkey alone opens nothing. Guests believe those that the approver set in force names, and of these only
what their quorum has signed; a requester's passkey begins the session that a ticket grants to that very key.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from audit.context import Actor
from audit.services import record
from breakglass.models import Passkey
from breakglass.refusals import TicketRefused
from breakglass.standing import portal_site
from protocol.persons import PersonKey, Purpose, SignatureError, decode, verify
from tenants.models import MemberKey
from tenants.services.keys import check_key, check_name
from tenants.services.refusals import MembersRefused

MAX_PASSKEYS = 8
"""That a person has at a time."""
RETIRE = "breakglass.retire_passkey"
"""The permission to retire another's."""
_COUNTER = slice(33, 37)
"""Where authenticator data hold the signature counter (W3C Web Authentication Level 2, §6.1)."""
P = ParamSpec("P")
R = TypeVar("R")


class Cloned(TicketRefused):
    """The counter says that a copy of the passkey may sign elsewhere."""

    def __init__(self, actor: Actor, passkey: Passkey, stated: int) -> None:
        super().__init__(
            "cloned",
            "This passkey's counter went back: there may be a copy of it. It signs nothing here any more. "
            "Retire it, register a new one, and tell the other approvers.",
        )
        self.actor, self.passkey, self.stated = actor, passkey, stated


def clones_noted(service: Callable[P, R]) -> Callable[P, R]:
    """For services that take an assertion: a clone goes on record, though all else is undone."""

    @wraps(service)
    def noting(*args: P.args, **given: P.kwargs) -> R:
        try:
            return service(*args, **given)
        except Cloned as refusal:
            _mark(refusal)
            raise

    return noting


@transaction.atomic
def passkey_register(*, actor: Actor, public_key: bytes, credential_id: str, name: str) -> Passkey:
    """Note that ``actor`` holds this passkey. It may ask for access at once; a quorum makes it an approver's.

    Args:
        public_key: SubjectPublicKeyInfo in DER, as :func:`portal.passkeys.registered` gives it.

    Raises:
        TicketRefused: ``not_allowed``, ``bad_name``, ``bad_key``, ``taken`` or ``too_many``.
    """
    user = staff_user(actor)
    # Two requests of one person see each other.
    User.objects.select_for_update().get(pk=user.pk)
    name = name.strip()
    try:
        check_name(name)
        check_key("passkey", public_key)
    except MembersRefused as refusal:
        raise TicketRefused(refusal.code, str(refusal)) from None
    fingerprint = PersonKey("passkey", public_key).fingerprint
    # One key is one person's, whoever asks.
    if MemberKey.objects.filter(fingerprint=fingerprint).exclude(user=user).exists():
        raise TicketRefused("taken", "Somebody else has registered this passkey. Make a new one.")
    if Passkey.objects.filter(user=user, retired_at=None).count() >= MAX_PASSKEYS:
        raise TicketRefused("too_many", f"You have {MAX_PASSKEYS} passkeys here. Retire one first.")
    try:
        with transaction.atomic():
            passkey = Passkey.objects.create(
                user=user,
                public_key=public_key.hex(),
                fingerprint=fingerprint,
                credential_id=credential_id,
                name=name,
            )
    except IntegrityError:
        # Under another account, or under this one: what was retired once does not come back, either.
        raise TicketRefused("taken", "This passkey was registered before. Make a new one.") from None
    _record("passkey.registered", actor, passkey)
    return passkey


@transaction.atomic
def passkey_retire(*, actor: Actor, passkey: Passkey) -> None:
    """Take nothing more from this passkey: one's own, or anybody's with the permission.

    Guests believe a key that the set in force names until the next set is in force: propose one without it.

    Raises:
        TicketRefused: ``not_allowed``.
    """
    user = staff_user(actor)
    if passkey.user_id != user.pk and not user.has_perm(RETIRE):
        raise TicketRefused(
            "not_allowed", "Only its holder retires a passkey, or staff with the permission to."
        )
    if Passkey.objects.filter(pk=passkey.pk, retired_at=None).update(retired_at=Now()):
        _record("passkey.retired", actor, passkey)


def assertion_take(*, actor: Actor, purpose: Purpose, document: Any, signature: Mapping[str, Any]) -> Passkey:
    """The passkey of ``actor`` that has signed ``document`` on the portal's own pages; its counter moves on.

    Called in the transaction of what the signature is for, by a service that is :func:`clones_noted`.

    Raises:
        TicketRefused: ``not_allowed``, ``unknown_passkey``, ``bad_signature`` or ``cloned``.
    """
    user = staff_user(actor)
    by = signature.get("by")
    passkey = (
        Passkey.objects.filter(fingerprint=by, user=user, retired_at=None).first()
        if isinstance(by, str)
        else None
    )
    if passkey is None:
        raise _unknown()
    try:
        key = PersonKey("passkey", bytes.fromhex(passkey.public_key))
        verify(key, signature, purpose, document, portal_site())
        stated = int.from_bytes(decode(signature, "authenticator_data")[_COUNTER], "big")
    except SignatureError as error:
        raise TicketRefused("bad_signature", f"The signature is not taken: {error}. Sign again.") from None
    # One statement: of two assertions at once with the same counter, the second finds it used.
    fits = {"counter": 0} if stated == 0 else {"counter__lt": stated}
    usable = Passkey.objects.filter(pk=passkey.pk, retired_at=None)
    if not usable.filter(cloned_at=None, **fits).update(counter=stated):
        raise Cloned(actor, passkey, stated) if usable.exists() else _unknown()
    passkey.counter = stated
    return passkey


def _unknown() -> TicketRefused:
    return TicketRefused(
        "unknown_passkey", "This is no passkey of yours that is in use. Register it under “Your passkeys”."
    )


def staff_user(actor: Actor) -> User:
    """The person behind ``actor``, as the database has them now.

    Raises:
        TicketRefused: ``not_allowed`` for all but active staff.
    """
    found = None
    if actor.kind == "user" and actor.user is not None:
        found = User.objects.filter(pk=actor.user.pk, is_active=True, is_staff=True).first()
    if found is None:
        raise TicketRefused("not_allowed", "Only active staff do this. Ask an operator.")
    return found


@transaction.atomic
def _mark(refusal: Cloned) -> None:
    """On record once: the passkey signs nothing any more."""
    passkey = refusal.passkey
    if Passkey.objects.filter(pk=passkey.pk, cloned_at=None).update(cloned_at=Now()):
        passkey.refresh_from_db()
        _record("passkey.cloned", refusal.actor, passkey, counter=passkey.counter, stated=refusal.stated)


def _record(action: str, actor: Actor, passkey: Passkey, **more: int) -> None:
    record(
        action=action,
        actor=actor,
        target=("passkey", passkey.fingerprint),
        data={"fingerprint": passkey.fingerprint, "user": str(passkey.user_id), **more},
    )
