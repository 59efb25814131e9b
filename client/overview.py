"""What the portal tells of a tenant's keys. Its word only: :mod:`client.pins` and the person judge it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from client.errors import WrongAnswer
from client.origins import Origin
from client.reading import hash_of, objects, optional, take
from client.screen import plain
from protocol.keyrings import Keyring, KeyringError
from protocol.persons import PersonKey, Site


@dataclass(frozen=True)
class Signed:
    """A document and its signature."""

    document: dict[str, Any]
    signature: dict[str, Any]

    @classmethod
    def read(cls, given: Any) -> Self:
        """Raises WrongAnswer."""
        return cls(take(given, "document", dict), take(given, "signature", dict))


@dataclass(frozen=True)
class Registered:
    """A key that somebody registered with the portal; it may stand in no keyring."""

    key: PersonKey
    name: str
    user: str
    role: str
    mine: bool

    @classmethod
    def read(cls, given: Any) -> Self:
        """Raises WrongAnswer, above all if the fingerprint is another key's."""
        try:
            key = PersonKey(take(given, "kind", str), bytes.fromhex(take(given, "public_key", str)))
        except ValueError:
            raise WrongAnswer("An answer cannot be understood: “public_key” is not hexadecimal.") from None
        if key.fingerprint != take(given, "fingerprint", str):
            raise WrongAnswer("The portal shows a key under another key's fingerprint. Do not sign anything.")
        name, user = plain(take(given, "name", str), 80), plain(take(given, "user", str))
        return cls(key, name, user, plain(take(given, "role", str)), take(given, "mine", bool))


@dataclass(frozen=True)
class Stated:
    """What a guest says of itself, as far as the one who passes it on is honest."""

    version: int | None
    """None: no keyring yet."""
    hash: str
    fingerprints: frozenset[str]
    recovery: str
    sealing_public_key: str

    @classmethod
    def read(cls, given: Any) -> Self:
        """From the portal's note of the guest's status. Raises WrongAnswer."""
        sealing = optional(given, "sealing_public_key", str) or ""
        if optional(given, "version", int) is None:
            return cls(None, "", frozenset(), "", sealing)
        fingerprints = frozenset(map(str, take(given, "fingerprints", list)))
        return cls(
            take(given, "version", int),
            hash_of(given, "hash"),
            fingerprints,
            take(given, "recovery", str),
            sealing,
        )

    @classmethod
    def read_members(cls, given: Any) -> Self:
        """From the guest's own ``GET /v1/members``. Raises WrongAnswer."""
        keyring, sealing = optional(given, "keyring", dict), take(given, "sealing_public_key", str)
        if keyring is None:
            return cls(None, "", frozenset(), "", sealing)
        fingerprints = frozenset(hash_of(member, "fingerprint") for member in objects(keyring, "members"))
        return cls(
            take(keyring, "version", int),
            hash_of(keyring, "hash"),
            fingerprints,
            take(keyring, "recovery", str),
            sealing,
        )


@dataclass(frozen=True)
class Overview:
    """All of ``GET /api/v1/tenants/<slug>/keyring/``, well-formed and true to itself."""

    tenant_id: str
    role: str
    current: Keyring | None
    signature: Mapping[str, Any]
    """Of ``current``."""
    registered: tuple[Registered, ...]
    consents: Signed | None
    stated: Stated | None
    """None: the guest has stated nothing yet."""
    site: Site
    """Where owners sign with passkeys."""

    @classmethod
    def read(cls, given: Any, portal: Origin, slug: str) -> Self:
        """``portal``, ``slug``: what was asked, and of whom. Raises WrongAnswer."""
        if take(given, "slug", str) != slug:
            raise WrongAnswer("The portal answered for another tenant.")
        current, consents = optional(given, "current", dict), optional(given, "consents", dict)
        guest = optional(given, "guest", dict)
        signed = Signed.read(current) if current is not None else None
        tenant_id = take(given, "tenant_id", str)
        return cls(
            tenant_id,
            plain(take(given, "role", str)),
            _keyring(signed, current, tenant_id) if signed else None,
            signed.signature if signed else {},
            tuple(Registered.read(entry) for entry in objects(given, "registered")),
            Signed.read(consents) if consents is not None else None,
            Stated.read(guest) if guest is not None else None,
            _site(given, portal),
        )

    def key(self, fingerprint: str) -> Registered | None:
        """The registered key of that fingerprint."""
        return next((held for held in self.registered if held.key.fingerprint == fingerprint), None)


def runtime_origin(text: str, portal: Origin) -> Origin:
    """A runtime's origin, which must be right below the portal's. Raises WrongAnswer."""
    try:
        found = Origin.parse(text)
    except ValueError:
        found = None
    if found is None or not found.below(portal):
        raise WrongAnswer(f"The portal names a runtime at {plain(text, 80)}, which is not below {portal}.")
    return found


def _keyring(signed: Signed, told: Any, tenant_id: str) -> Keyring:
    try:
        keyring = Keyring.parse(signed.document)
    except KeyringError as error:
        raise WrongAnswer(f"The portal shows a keyring that is malformed: {plain(str(error))}.") from None
    if (take(told, "version", int), take(told, "hash", str)) != (keyring.version, keyring.hash):
        raise WrongAnswer(
            "The portal shows a keyring under another one's version or hash. Do not sign anything."
        )
    if keyring.tenant_id != tenant_id:
        raise WrongAnswer("The portal shows another tenant's keyring. Do not sign anything.")
    return keyring


def _site(given: Any, portal: Origin) -> Site:
    if take(given, "rp_id", str) != portal.host:
        raise WrongAnswer(f"The portal's passkeys are for another name than {portal.host}.")
    origin = runtime_origin(take(given, "origin", str), portal)
    return Site(portal.host, frozenset({str(portal), str(origin)}))
