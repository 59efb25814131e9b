"""Whom this guest knows: the pinned keyring, the owner's consents, and whether it is suspended."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from guest.agent.files import FileDamaged, read_optional, write_atomically
from protocol.canonical import canonical
from protocol.keyrings import Keyring, KeyringError, Member, accept
from protocol.persons import Purpose, SignatureError, Site, verify

KEYRING_FILE = "keyring.json"
CONSENTS_FILE = "consents.json"
SUSPENDED_FILE = "suspended"
_CONSENT_FIELDS = {"version", "tenant_id", "agents", "always_on"}


class MembersRefused(Exception):
    """A keyring or consent that is not taken. ``code`` is for machines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class MembersFileError(FileDamaged):
    """A file of this module is damaged. The agent stops rather than pin a new first keyring."""


@dataclass(frozen=True)
class Consents:
    """What an owner has agreed to; nothing until signed."""

    version: int = 0
    agents: bool = False
    always_on: bool = False


class Members:
    """The guest's memory of people, on the data volume."""

    def __init__(self, folder: Path, tenant_id: str, site: Site | None) -> None:
        """Raises MembersFileError."""
        self._folder, self._tenant_id, self._site = folder, tenant_id, site
        try:
            stored, agreed = read_optional(folder / KEYRING_FILE), read_optional(folder / CONSENTS_FILE)
            self.keyring = Keyring.parse(json.loads(stored)) if stored else None
            self.consents = Consents(**json.loads(agreed)) if agreed else Consents()
        except (ValueError, TypeError) as error:
            raise MembersFileError(f"the record of members is damaged: {type(error).__name__}") from None

    @property
    def suspended(self) -> bool:
        """Whether the portal, or an owner, has closed every content route."""
        return (self._folder / SUSPENDED_FILE).exists()

    def suspend(self, suspended: bool) -> None:
        """Close or reopen every content route; survives a restart."""
        if suspended:
            write_atomically(self._folder / SUSPENDED_FILE, b"")
        else:
            (self._folder / SUSPENDED_FILE).unlink(missing_ok=True)

    def member(self, fingerprint: str) -> Member | None:
        """The key of that fingerprint, if the keyring in force names it."""
        return self.keyring.members.get(fingerprint) if self.keyring else None

    def passkeys(self) -> list[Member]:
        """The passkeys of the keyring in force."""
        members = self.keyring.members.values() if self.keyring else ()
        return [member for member in members if member.key.kind == "passkey"]

    def name_of(self, member: Member) -> str:
        """What the keyring calls the key's holder."""
        names = {each["fingerprint"]: each["name"] for each in self.described()}
        return str(names.get(member.key.fingerprint, ""))

    def described(self) -> list[dict[str, Any]]:
        """The keyring's members, in its order: name, role, kind, fingerprint."""
        if self.keyring is None:
            return []
        entries = self.keyring.document["members"]
        return [
            {
                "name": entry["name"],
                "role": member.role,
                "kind": member.key.kind,
                "fingerprint": member.key.fingerprint,
            }
            for entry, member in zip(entries, self.keyring.members.values(), strict=True)
        ]

    def take_keyring(self, document: Any, signature: Mapping[str, Any]) -> Keyring:
        """Pin the first keyring, or follow the one in force.

        Raises:
            MembersRefused: with the codes of :class:`protocol.keyrings.KeyringError`.
        """
        try:
            keyring = accept(self.keyring, document, signature, self._tenant_id, self._site)
        except KeyringError as error:
            raise MembersRefused(error.code, str(error)) from None
        if keyring is not self.keyring:
            self.put_in_force(keyring)
        return keyring

    def put_in_force(self, keyring: Keyring) -> None:
        """Put ``keyring`` in force. Whether it may be is for the caller to have checked."""
        write_atomically(self._folder / KEYRING_FILE, canonical(keyring.document))
        self.keyring = keyring

    def take_consents(self, document: Any, signature: Mapping[str, Any]) -> Consents:
        """Note what an owner agrees to from now on. Versions only rise, so a withdrawn consent stays so.

        Raises:
            MembersRefused: ``malformed``, ``rolled_back``, ``not_an_owner`` or ``bad_signature``.
        """
        consents = _consents(document, self._tenant_id)
        if consents == self.consents:
            return consents
        if consents.version <= self.consents.version:
            raise MembersRefused("rolled_back", f"version {self.consents.version} is in force")
        by = signature.get("by")
        signer = self.member(by) if isinstance(by, str) else None
        if signer is None or signer.role != "owner":
            raise MembersRefused("not_an_owner", "an owner must sign")
        try:
            verify(signer.key, signature, Purpose.CONSENT, document, self._site)
        except SignatureError as error:
            raise MembersRefused("bad_signature", str(error)) from None
        write_atomically(self._folder / CONSENTS_FILE, canonical(asdict(consents)))
        self.consents = consents
        return consents

    def statement(self) -> dict[str, Any]:
        """What the guest says of itself in its status: public keys' fingerprints and agreed facts only."""
        keyring = self.keyring
        return {
            "keyring": None
            if keyring is None
            else {
                "version": keyring.version,
                "hash": keyring.hash,
                "fingerprints": sorted(keyring.members),
                "recovery": keyring.recovery.fingerprint,
            },
            "consents": asdict(self.consents),
            "suspended": self.suspended,
        }


def _consents(document: Any, tenant_id: str) -> Consents:
    if not isinstance(document, Mapping) or document.keys() != _CONSENT_FIELDS:
        raise MembersRefused("malformed", f"it must have exactly: {', '.join(sorted(_CONSENT_FIELDS))}")
    version, agents, always_on = document["version"], document["agents"], document["always_on"]
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**31:
        raise MembersRefused("malformed", "version must be a whole number from 1")
    if not isinstance(agents, bool) or not isinstance(always_on, bool) or (always_on and not agents):
        raise MembersRefused("malformed", "agents and always_on are true or false; always_on needs agents")
    if document["tenant_id"] != tenant_id:
        raise MembersRefused("wrong_tenant", "the consent is another tenant's")
    return Consents(version, agents, always_on)
