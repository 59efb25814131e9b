"""Connector secrets: kept as sealed boxes on the data volume, opened only when the gateway starts.

Everything held is sealed to the current key: what comes sealed to the previous one is sealed anew on arrival.
Which keys there are and what is held stand in one file, so every change happens in one instant or not at all.
"""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nacl.public import PrivateKey

from guest.agent.files import erase_leftovers, read_optional, write_erasing
from guest.agent.keys import Keys
from guest.agent.vault_record import MAX_NAMES, Record, Secret, VaultFileError, mark
from guest.agent.vault_requests import VaultRefused, check_name, checked_box, checked_key_id, disk_full
from protocol.sealed import SealError, key_id, seal, unseal

VAULT_FILE = "vault.json"


class Vault:
    """The guest's secrets and the keys that open them.

    Not for several threads: each change is whole before the next begins because the event loop runs it.
    """

    _record: Record
    _current: PrivateKey
    _previous: PrivateKey | None

    def __init__(self, folder: Path, keys: Keys) -> None:
        """Open the vault in ``folder``, or begin it.

        Raises:
            KeyFileError: a sealing key is missing or damaged.
            VaultFileError: the record is missing or damaged, or what is held cannot be opened.
        """
        self._path, self._sealing = folder / VAULT_FILE, keys.sealing
        self.changed: Callable[[str], None] = lambda _name: None
        """Called with its name after a secret got another value or was revoked. Must not raise."""
        stored = read_optional(self._path)
        if stored is None:
            self._begin()
        else:
            self._resume(Record.from_bytes(stored))

    @property
    def sealing_public(self) -> bytes:
        """What to seal to: X25519, 32 bytes."""
        return bytes(self._current.public_key)

    def open_secret(self, name: str) -> bytes:
        """The value. Raises KeyError if there is none of that name, or if it was revoked."""
        held = self._record.secrets[name].sealed
        if held is None:
            raise KeyError(name)
        return unseal(bytes(self._current), held)

    def statement(self) -> dict[str, Any]:
        """Public keys, names and versions: the answer of ``GET /v1/secrets``."""
        return {
            "sealing": {
                "current": _public(self._current),
                "previous": _public(self._previous) if self._previous else None,
            },
            "secrets": [
                _stated(name, secret) | {"key_id": self._record.current if secret.sealed else None}
                for name, secret in sorted(self._record.secrets.items())
            ],
        }

    def deliver(self, name: Any, version: Any, key: Any, sealed: Any) -> dict[str, Any]:
        """Take a sealed box (base64) as ``version`` of ``name``; the same again changes nothing.

        A box is good for one name. It is taken again only for a later version of what it already is.

        Raises:
            VaultRefused: ``malformed``, ``rolled_back``, ``unknown_key``, ``too_many``, ``cannot_open``
                or ``disk_full``.
        """
        check_name(name, version)
        key, box = checked_key_id(key), checked_box(sealed)
        known = self._record.secrets.get(name)
        if known is not None and self._is_held(known, mark(key, box)) and version >= known.version:
            secret = replace(known, version=version)
            if secret != known:
                self._keep(self._record.holding(name, secret))
            return _stated(name, secret)
        self._check_newer(known, version)
        self._check_room(known)
        value, record, secret = self._opened(key, box), self._record.taking(key, box), Secret(version, box)
        if key != record.current:
            anew = seal(self.sealing_public, value)
            record, secret = record.taking(record.current, anew), Secret(version, anew, mark(key, box))
        self._keep(record.holding(name, secret))
        self.changed(name)
        return _stated(name, secret)

    def revoke(self, name: Any, version: Any) -> dict[str, Any]:
        """Forget the value; no version up to ``version`` is taken any more, not even one never seen.

        Raises:
            VaultRefused: ``malformed``, ``rolled_back``, ``too_many`` or ``disk_full``.
        """
        check_name(name, version)
        known, secret = self._record.secrets.get(name), Secret(version, None)
        if known == secret:
            return _stated(name, secret)
        if known is not None and version < known.version:
            raise _rolled_back(known)
        self._check_room(known)
        self._keep(self._record.holding(name, secret))
        if known is not None and known.sealed is not None:
            self.changed(name)
        return _stated(name, secret)

    def export(self, name: Any) -> dict[str, Any]:
        """The sealed box as it is kept now, for the portal to keep in place of its own.

        Raises:
            VaultRefused: ``malformed`` or ``no_such_secret``.
        """
        check_name(name, 1)
        known = self._record.secrets.get(name)
        if known is None or known.sealed is None:
            raise VaultRefused(404, "no_such_secret", "nothing is held under this name")
        sealed = b64encode(known.sealed).decode()
        return {"name": name, "version": known.version, "key_id": self._record.current, "sealed": sealed}

    def rotate(self, key: Any) -> dict[str, Any]:
        """Make a new key and seal all that is held to it; the old one stays until it is retired.

        The same again changes nothing. No value changes, so :attr:`changed` is not called.

        Raises:
            VaultRefused: ``malformed``, ``not_current``, ``rotation_unfinished`` or ``disk_full``.
        """
        now = self._record
        if checked_key_id(key) == now.previous:
            return self.statement()
        if key != now.current:
            raise VaultRefused(409, "not_current", "from must be the id of the current key")
        if now.previous is not None:
            raise VaultRefused(409, "rotation_unfinished", "retire the previous key first")
        try:
            new = self._sealing.make()
        except OSError as error:
            raise disk_full(error) from None
        self._keep(_resealed(now, self._current, new))
        self._current, self._previous = new, self._current
        self._sealing.keep_only(_id(new), now.current)
        return self.statement()

    def retire(self, key: Any) -> dict[str, Any]:
        """Destroy the previous key. The same again changes nothing, and ends what an error interrupted.

        Raises:
            VaultRefused: ``malformed``, ``in_use`` or ``disk_full``.
        """
        if checked_key_id(key) == self._record.current:
            raise VaultRefused(409, "in_use", "this is the current key; rotate first")
        # Written in any case: an error may have left another record on the disk, whose keys go only after it.
        self._keep(self._record.retiring(key))
        self._previous = self._previous if self._record.previous else None
        self._sealing.keep_only(self._record.current, self._record.previous or self._record.current)
        return self.statement()

    def _begin(self) -> None:
        """First start. The key is there before the record that names it, and gets its name after it."""
        if self._sealing.any_named():
            raise VaultFileError(f"{VAULT_FILE} is missing")
        self._current, self._previous = self._sealing.first(), None
        self._keep(Record(_id(self._current), None))
        self._sealing.load(self._record.current)

    def _resume(self, record: Record) -> None:
        """Go on where the last agent stopped. Nothing is removed before all has proved readable."""
        self._current = self._sealing.load(record.current)
        self._previous = self._sealing.load(record.previous) if record.previous else None
        for secret in record.secrets.values():
            try:
                if secret.sealed is not None:
                    unseal(bytes(self._current), secret.sealed)
            except SealError:
                raise VaultFileError(f"{VAULT_FILE} holds what its key does not open") from None
        self._record = record
        self._sealing.keep_only(record.current, record.previous or record.current)
        erase_leftovers(self._path)

    def _keep(self, record: Record) -> None:
        """The one place of change: on disk first, then in memory."""
        try:
            write_erasing(self._path, record.to_bytes())
        except OSError as error:
            raise disk_full(error) from None
        self._record = record

    def _is_held(self, known: Secret, given: str) -> bool:
        """Whether the box of that mark is what is held, or what that was before it was sealed anew.

        Boxes are compared, never values: a portal that could learn whether two values are equal could
        try its guesses here.
        """
        return known.sealed is not None and given in {mark(self._record.current, known.sealed), known.before}

    def _check_newer(self, known: Secret | None, version: int) -> None:
        if known is not None and version <= known.version:
            raise _rolled_back(known)

    def _check_room(self, known: Secret | None) -> None:
        if known is None and len(self._record.secrets) >= MAX_NAMES:
            text = f"at most {MAX_NAMES} names, revoked ones included; use one of them again"
            raise VaultRefused(409, "too_many", text)

    def _opened(self, key: str, box: bytes) -> bytes:
        holder = {self._record.current: self._current, self._record.previous: self._previous}.get(key)
        if holder is None:
            raise VaultRefused(409, "unknown_key", "seal it to the current key")
        try:
            return unseal(bytes(holder), box)
        except SealError:
            raise VaultRefused(422, "cannot_open", "it does not open with the key of key_id") from None


def _resealed(record: Record, old: PrivateKey, new: PrivateKey) -> Record:
    """The record after a rotation: all that is held sealed to ``new``."""
    after = replace(record, current=_id(new), previous=record.current)
    for name, secret in record.secrets.items():
        if secret.sealed is not None:
            box = seal(bytes(new.public_key), unseal(bytes(old), secret.sealed))
            moved = Secret(secret.version, box, mark(record.current, secret.sealed))
            after = after.taking(after.current, box).holding(name, moved)
    return after


def _id(key: PrivateKey) -> str:
    return key_id(bytes(key.public_key))


def _public(key: PrivateKey) -> dict[str, str]:
    return {"id": _id(key), "public_key": bytes(key.public_key).hex()}


def _stated(name: str, secret: Secret) -> dict[str, Any]:
    state = "revoked" if secret.sealed is None else "held"
    return {"name": name, "version": secret.version, "state": state}


def _rolled_back(known: Secret) -> VaultRefused:
    text = f"version {known.version} is known, and is something else; take a higher one"
    return VaultRefused(409, "rolled_back", text)
