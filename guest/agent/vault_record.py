"""What the vault remembers, as bytes. One file, so that keys and secrets change in the same instant."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Self

from guest.agent.files import FileDamaged
from guest.agent.vault_requests import VaultRefused
from protocol.canonical import canonical
from protocol.sealed import KEY_ID, NAME

MAX_NAMES = 64
MAX_TAKEN = 1024
"""Boxes for one key. More need another key, which a portal asks for as it likes."""


class VaultFileError(FileDamaged):
    """The vault's record is missing or damaged. The agent stops: a fresh one would take old secrets again."""


@dataclass(frozen=True)
class Secret:
    """One version of one name."""

    version: int
    sealed: bytes | None
    """To the current key; None once revoked."""
    before: str = ""
    """Mark of the box that this one was made from by sealing it anew; the portal may still hold that one."""


@dataclass(frozen=True)
class Record:
    """All of it. Keys by their id."""

    current: str
    previous: str | None
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    taken: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By key, the marks of all boxes that were ever taken for it or made with it. None is taken twice."""

    def holding(self, name: str, secret: Secret) -> Self:
        """With that secret under that name."""
        return replace(self, secrets={**self.secrets, name: secret})

    def taking(self, key: str, box: bytes) -> Self:
        """With the box noted, so that it does not come again as another version or under another name.

        Raises:
            VaultRefused: it is noted already, or there is no room.
        """
        taken, given = self.taken.get(key, ()), mark(key, box)
        if given in taken:
            raise VaultRefused(409, "rolled_back", "this box was taken before; seal the value anew")
        if len(taken) >= MAX_TAKEN:
            text = f"this key has taken {MAX_TAKEN} boxes; rotate the sealing key"
            raise VaultRefused(409, "too_many", text)
        return replace(self, taken={**self.taken, key: (*taken, given)})

    def retiring(self, key: str) -> Self:
        """Without the previous key, if that is its id. Its boxes open nowhere, so they need no note."""
        if key != self.previous:
            return self
        return replace(self, previous=None, taken={self.current: self.taken.get(self.current, ())})

    def to_bytes(self) -> bytes:
        """Canonical JSON, after a line with its SHA-256: no damaged digit passes for another version."""
        secrets = {name: _plain(secret) for name, secret in self.secrets.items()}
        document = {"version": 1, "current": self.current, "previous": self.previous, "secrets": secrets}
        content = canonical({**document, "taken": {key: list(marks) for key, marks in self.taken.items()}})
        return sha256(content).hexdigest().encode() + b"\n" + content

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises VaultFileError if ``data`` is no record."""
        digest, _, content = data.partition(b"\n")
        if sha256(content).hexdigest().encode() != digest:
            raise VaultFileError("vault.json is damaged")
        try:
            document: dict[str, Any] = json.loads(content)
            if document["version"] != 1:
                raise VaultFileError("vault.json is of an unknown version")
            secrets = {_matching(NAME, name): _secret(each) for name, each in document["secrets"].items()}
            previous = document["previous"]
            return cls(
                _matching(KEY_ID, document["current"]),
                None if previous is None else _matching(KEY_ID, previous),
                secrets,
                {_matching(KEY_ID, key): tuple(map(str, marks)) for key, marks in document["taken"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise VaultFileError("vault.json is damaged") from None


def _plain(secret: Secret) -> dict[str, Any]:
    sealed = None if secret.sealed is None else b64encode(secret.sealed).decode()
    return {"version": secret.version, "sealed": sealed, "before": secret.before}


def _secret(document: dict[str, Any]) -> Secret:
    sealed = document["sealed"]
    return Secret(
        int(document["version"]),
        None if sealed is None else b64decode(sealed, validate=True),
        str(document["before"]),
    )


def _matching(pattern: Any, text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError("another form")
    return text


def mark(key: str, box: bytes) -> str:
    """By which a box for that key is known again: 128 bits of SHA-256, in hexadecimal."""
    return sha256(key.encode() + b"\0" + box).hexdigest()[:32]
