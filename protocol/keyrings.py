"""The signed, versioned list of a guest's person keys, and the one rule by which it may change.

The first keyring is pinned as it comes, signed by an owner that it names. Each later one is signed by an
owner of the one before, or by its recovery key, names the hash of the one before, and counts one up. So a
guest never goes back, never forks, and never takes a keyring that no owner has seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from protocol.canonical import CanonicalError, canonical
from protocol.persons import PersonKey, Purpose, SignatureError, Site, passkey_of, verify

ROLES = frozenset({"owner", "member"})
MAX_MEMBERS = 64
_FIELDS = {"version", "tenant_id", "previous", "members", "recovery"}


class KeyringError(ValueError):
    """A keyring that must not be taken. ``code`` is for machines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Member:
    """One key and what its holder may do."""

    key: PersonKey
    role: str


@dataclass(frozen=True)
class Keyring:
    """A well-formed keyring."""

    version: int
    tenant_id: str
    previous: str | None
    """SHA-256 of the canonical keyring before, in hex."""
    members: Mapping[str, Member]
    """By fingerprint."""
    recovery: PersonKey
    document: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical document in hex: what people compare."""
        return sha256(canonical(self.document)).hexdigest()

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read a keyring.

        Raises:
            KeyringError: ``malformed``.
        """
        if not isinstance(document, Mapping) or document.keys() != _FIELDS:
            raise _malformed(f"it must be an object with exactly: {', '.join(sorted(_FIELDS))}")
        try:
            canonical(document)
        except CanonicalError as error:
            raise _malformed(str(error)) from None
        members, recovery = document["members"], document["recovery"]
        if not isinstance(members, list) or not 0 < len(members) <= MAX_MEMBERS:
            raise _malformed(f"members must be a list of 1 to {MAX_MEMBERS}")
        parsed = [_member(entry) for entry in members]
        by_fingerprint = {member.key.fingerprint: member for member in parsed}
        if len(by_fingerprint) != len(parsed):
            raise _malformed("a key stands twice")
        if not any(member.role == "owner" for member in parsed):
            raise _malformed("there must be an owner")
        version, tenant_id, previous = document["version"], document["tenant_id"], document["previous"]
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise _malformed("version must be a whole number from 1")
        if not isinstance(tenant_id, str) or not isinstance(previous, str | None):
            raise _malformed("tenant_id and previous must be text")
        recovery_key = _key(recovery, {"kind", "public_key"})
        if recovery_key.fingerprint in by_fingerprint:
            raise _malformed("the recovery key must not be a member's")
        return cls(version, tenant_id, previous, by_fingerprint, recovery_key, dict(document))


def accept(
    current: Keyring | None, document: Any, signature: Mapping[str, Any], tenant_id: str, site: Site | None
) -> Keyring:
    """The keyring that holds from now on. Sending the present one again changes nothing.

    ``signature`` is a person signature with one member more, ``by``: the signer's fingerprint.

    Raises:
        KeyringError: ``malformed``, ``wrong_tenant``, ``rolled_back``, ``forked``, ``version_skipped``,
            ``not_an_owner`` or ``bad_signature``.
    """
    new = Keyring.parse(document)
    if new.tenant_id != tenant_id:
        raise KeyringError("wrong_tenant", "the keyring is another tenant's")
    if current is not None and new.version == current.version and new.hash == current.hash:
        return current
    _check_order(current, new)
    signer = _signer(current or new, signature, first=current is None)
    try:
        verify(signer, signature, Purpose.KEYRING, document, site)
    except SignatureError as error:
        raise KeyringError("bad_signature", str(error)) from None
    return new


def _check_order(current: Keyring | None, new: Keyring) -> None:
    if current is None:
        if (new.version, new.previous) != (1, None):
            raise KeyringError("version_skipped", "the first keyring must be version 1 with no previous")
        return
    if new.version < current.version:
        raise KeyringError("rolled_back", f"version {current.version} is in force")
    if new.version == current.version:
        raise KeyringError("forked", f"another version {current.version} is in force")
    if new.version != current.version + 1:
        raise KeyringError("version_skipped", f"the next version is {current.version + 1}")
    if new.previous != current.hash:
        raise KeyringError("forked", "it does not follow the keyring in force")


def _signer(judge: Keyring, signature: Mapping[str, Any], *, first: bool) -> PersonKey:
    by = signature.get("by")
    member = judge.members.get(by) if isinstance(by, str) else None
    if member is not None and member.role == "owner":
        return member.key
    # The recovery key is for later: it cannot vouch for the first keyring, which names it.
    if not first and by == judge.recovery.fingerprint:
        return judge.recovery
    raise KeyringError("not_an_owner", "an owner of the keyring in force must sign")


def _member(entry: Any) -> Member:
    key = _key(entry, {"kind", "public_key", "role", "name"})
    if entry["role"] not in ROLES or not isinstance(entry["name"], str) or len(entry["name"]) > 80:
        raise _malformed("a member needs a role (owner or member) and a name of up to 80 characters")
    return Member(key, entry["role"])


def _key(entry: Any, names: set[str]) -> PersonKey:
    if not isinstance(entry, Mapping) or entry.keys() != names:
        raise _malformed(f"a key must be an object with exactly: {', '.join(sorted(names))}")
    kind, text = entry["kind"], entry["public_key"]
    try:
        if kind == "passkey":
            return passkey_of(text)
        raw = bytes.fromhex(text)
    except (ValueError, TypeError) as error:
        raise _malformed(f"public_key must be a key in hexadecimal: {error}") from None
    if kind != "device" or len(raw) != 32 or raw.hex() != text:
        raise _malformed("a key is a device key of 32 bytes or a passkey's SubjectPublicKeyInfo")
    return PersonKey(kind, raw)


def _malformed(message: str) -> KeyringError:
    return KeyringError("malformed", message)
