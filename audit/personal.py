"""Names, addresses and reasons: a leaf holds a commitment to each, and the value can be erased."""

import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import urandom
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit.context import Actor, Context
from audit.models.personal import MAX_VALUE, PersonalDatum
from protocol.personal import SALT_BYTES, commitment
from protocol.receipts import Opening

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

KINDS: Mapping[str, str] = {
    "username": "the name that a person signs in with",
    "address": "the network address that a request came from",
    "reason": "why, in the words of whoever did it",
    "name": "what a tenant is called, and its short name in addresses",
}
"""All that is ever committed to, in words."""

REMEMBERED_SECONDS = 60.0
"""How long another process may still refer to a commitment after its value was erased."""
_REMEMBERED_MAXIMUM = 4096
_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Personal:
    """One personal datum for an entry: whom it is about, what kind it is (:data:`KINDS`), and the value."""

    subject: str
    kind: str
    value: str

    def key(self) -> _Key:
        """As it is stored. Raises ValueError: an unknown kind, or a value that is too long."""
        if self.kind not in KINDS:
            raise ValueError(f"There is no kind of personal data called {self.kind}.")
        if len(self.value) > MAX_VALUE:
            raise ValueError(f"A personal datum has {MAX_VALUE} characters at most.")
        return self.subject, self.kind, unicodedata.normalize("NFC", self.value)


def username(user: "AbstractBaseUser") -> Personal:
    """The name of a person whom an entry is about."""
    return Personal(f"user:{user.pk}", "username", user.get_username())


def reason_of(actor: Actor, words: str) -> Personal:
    """Why, in the words of ``actor``: what people write may name others."""
    return Personal(actor.subject, "reason", words)


def names_of(tenant_id: UUID, **names: str) -> dict[str, Personal]:
    """What a tenant is called, by role: a firm may bear its owner's name."""
    return {role: Personal(f"tenant:{tenant_id}", "name", name) for role, name in names.items()}


_known: dict[_Key, tuple[str, float]] = {}
"""Commitments that are committed, with the time until which this process does not ask the database again."""


def commit(datum: Personal) -> str:
    """The commitment to ``datum``, in hex; made in the caller's transaction if there is none.

    Raises:
        ValueError: see :meth:`Personal.key`.
    """
    key = datum.key()
    kept = _remembered(key) or _stored(key)
    if kept is None:
        kept = _insert(key)
    if key not in _known:
        transaction.on_commit(partial(_remember, key, kept))
    return kept


def committed(datum: Personal) -> str:
    """The commitment to ``datum`` if there is one already, else empty. Writes nothing."""
    key = datum.key()
    return _remembered(key) or _stored(key) or ""


def of_entry(actor: Actor, cause: Actor | None, context: Context) -> dict[str, str]:
    """What every entry commits to: the name of the person who acted or asked, and the caller's address."""
    role, person = ("actor", actor) if actor.kind == "user" or cause is None else ("cause", cause)
    found = {}
    if person.user is not None:
        found[role] = commit(username(person.user))
    if context.address:
        found["address"] = commit(address_of(person, context.address))
    elif context.address_commitment:
        found["address"] = context.address_commitment
    return found


def address_of(person: Actor | None, address: str) -> Personal:
    """An address, as a datum about the person who used it; about nobody in particular if none signed in."""
    known = person is not None and person.kind == "user"
    return Personal(person.subject if person and known else "anonymous", "address", address)


def openings(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Opening | None]]:
    """As :func:`data_of`, only what opens: None as well for a value that is not what was committed to."""
    return [
        {role: row.opening if row and row.opens else None for role, row in found.items()}
        for found in data_of(events)
    ]


def data_of(events: Sequence[Mapping[str, Any]]) -> list[dict[str, PersonalDatum | None]]:
    """For each event, what stands behind its commitments, by role; None: erased. One query for all.

    It says everything: whoever shows it decides who may see which, and shows no value that does not open.
    """
    wanted = {text for event in events for text in event.get("personal", {}).values()}
    found = {row.commitment: row for row in PersonalDatum.objects.filter(commitment__in=wanted)}
    return [{role: found.get(text) for role, text in event.get("personal", {}).items()} for event in events]


def forget(keys: Iterable[_Key] | None = None) -> None:
    """Drop what this process remembers: of ``keys``, or all."""
    for key in list(_known) if keys is None else keys:
        _known.pop(key, None)


def _remembered(key: _Key) -> str | None:
    kept, until = _known.get(key, ("", 0.0))
    if time.monotonic() < until:
        return kept
    _known.pop(key, None)
    return None


def _remember(key: _Key, kept: str) -> None:
    if len(_known) >= _REMEMBERED_MAXIMUM:
        _known.clear()
    _known[key] = (kept, time.monotonic() + REMEMBERED_SECONDS)


def _stored(key: _Key) -> str | None:
    subject, kind, value = key
    rows = PersonalDatum.objects.filter(subject=subject, kind=kind, value=value).order_by()
    return next(iter(rows.values_list("commitment", flat=True)[:1]), None)


def _insert(key: _Key) -> str:
    subject, kind, value = key
    salt = urandom(SALT_BYTES)
    made = commitment(salt, kind, value).hex()
    PersonalDatum.objects.create(
        subject=subject, kind=kind, value=value, salt=salt, commitment=made, made_at=timezone.now()
    )
    return made
