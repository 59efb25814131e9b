"""Signatures of staff at the portal: whose key it is, and whether its counter tells of a copy."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from audit.context import Actor
from audit.services import record
from breakglass.models import Passkey
from breakglass.refusals import TicketRefused
from breakglass.selectors import keys_of_person
from protocol.persons import SignatureError, decode

P = ParamSpec("P")
R = TypeVar("R")
FIELDS = ("kind", "by", "client_data", "authenticator_data", "signature")
_COUNTER = slice(33, 37)
"""In the authenticator's data (W3C Web Authentication Level 2, §6.1): big-endian."""


class Cloned(TicketRefused):
    """An assertion that counts backwards: two devices hold one key."""

    def __init__(self, actor: Actor, passkey: Passkey) -> None:
        super().__init__(
            "cloned",
            f"The passkey {passkey.name} counted backwards, so a copy of it may be about. It signs nothing "
            "more. Retire it, and register another.",
        )
        self.actor, self.passkey = actor, passkey


def one_deed(service: Callable[P, R]) -> Callable[P, R]:
    """A service in one transaction; a copied key is noted even though nothing else is."""

    @functools.wraps(service)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with transaction.atomic():
                return service(*args, **kwargs)
        except Cloned as error:
            _note(error)
            raise

    return wrapped


def kept(signature: Mapping[str, Any]) -> dict[str, Any]:
    """A passkey's signature as it is stored, without anything beside it.

    Raises:
        TicketRefused: ``malformed``.
    """
    found = {name: signature.get(name) for name in FIELDS}
    if found["kind"] != "passkey" or not all(isinstance(each, str) for each in found.values()):
        raise TicketRefused("malformed", "The signature is not a passkey's. Sign again.")
    return found


def own_key(actor: Actor, signature: Mapping[str, Any]) -> Passkey:
    """The passkey of ``actor`` that ``signature`` says it is by.

    Raises:
        TicketRefused: ``not_your_key``.
    """
    key = keys_of_person(actor.user).filter(fingerprint=signature.get("by")).first() if actor.user else None
    if key is None:
        raise TicketRefused(
            "not_your_key", "This passkey is none of yours that is in use. Choose another, or register it."
        )
    return key


def spend(actor: Actor, passkey: Passkey, signature: Mapping[str, Any]) -> None:
    """Note what the authenticator counted, in one statement. Call it once the signature is verified.

    Raises:
        Cloned: it counted no further than before.
        TicketRefused: ``not_your_key``, where the passkey was retired meanwhile; ``bad_signature``.
    """
    counted = counter(signature)
    rises = Q(counter__lt=counted) if counted else Q(counter=0)
    usable = Passkey.objects.filter(pk=passkey.pk, retired_at=None, cloned_at=None)
    if usable.filter(rises).update(counter=counted) == 1:
        return
    if usable.exists():
        raise Cloned(actor, passkey)
    raise TicketRefused("not_your_key", "This passkey was retired meanwhile. Use another.")


def counter(signature: Mapping[str, Any]) -> int:
    """What the authenticator counted; 0 where it does not count. Raises TicketRefused: ``bad_signature``."""
    try:
        data = decode(signature, "authenticator_data")
    except SignatureError as error:
        raise TicketRefused("bad_signature", str(error)) from None
    return int.from_bytes(data[_COUNTER], "big")


@transaction.atomic
def _note(error: Cloned) -> None:
    key = error.passkey
    marked = Passkey.objects.filter(pk=key.pk, cloned_at=None).update(cloned_at=Now())
    if marked:
        record(
            action="passkey.cloned",
            actor=error.actor,
            target=("passkey", key.fingerprint),
            data={"fingerprint": key.fingerprint, "user": str(key.user_id)},
        )
