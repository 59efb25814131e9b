"""Enrolment: how a fresh guest and the control plane recognise each other once.

Both sides hold one secret of 32 bytes that the control plane put into the guest's personalisation.
Each message is authenticated by HMAC-SHA-256 over ``purpose ‖ NUL ‖ fields``, every field preceded by
its length (8 bytes, big endian), so that no two different messages have the same bytes.
"""

import hmac
import ipaddress
import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any, Self

from protocol.canonical import canonical
from protocol.notes import VerifierKey

SECRET_BYTES = 32
NONCE_BYTES = 32
MAX_TRUSTED = 64
MAX_PORT = 65535
VERSION = 5
"""Of the personalisation; guests take no other."""
CREDENTIAL_NAME = "portal.personalisation"
"""Name of the systemd credential that carries the personalisation into the guest."""


class EnrolmentError(ValueError):
    """A message that is malformed or not authentic. Carries no secret."""


def request_mac(secret: bytes, nonce: bytes, csr_der: bytes, sealing_public_key: bytes) -> bytes:
    """The guest's proof that this CSR (DER) and this X25519 key (32 bytes) answer this nonce: 32 bytes."""
    return _mac(secret, b"portal enrolment request v1", nonce, csr_der, sealing_public_key)


def certificate_mac(secret: bytes, nonce: bytes, certificate_der: bytes) -> bytes:
    """The control plane's proof that it issued this certificate (DER) for this nonce: 32 bytes."""
    return _mac(secret, b"portal enrolment certificate v1", nonce, certificate_der)


def check_mac(expected: bytes, given: bytes) -> None:
    """Compare in constant time.

    Raises:
        EnrolmentError: the two differ.
    """
    if not hmac.compare_digest(expected, given):
        raise EnrolmentError("the message is not authentic")


def _mac(secret: bytes, purpose: bytes, *fields: bytes) -> bytes:
    if len(secret) != SECRET_BYTES:
        raise EnrolmentError(f"the secret must be {SECRET_BYTES} bytes")
    message = purpose + b"\0" + b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    return hmac.new(secret, message, sha256).digest()


def runtime_dns_name(runtime_id: str) -> str:
    """The only DNS name in a runtime's server certificate."""
    return f"{runtime_id}.runtime.internal"


CONTROL_PLANE_URI = "urn:managed-host-portal:control-plane"
"""The only URI name in the control plane's client certificate."""

PROXY_URI = "urn:managed-host-portal:proxy"
"""The only URI name in the proxy's client certificate: it reaches routed routes and nothing else."""


@dataclass(frozen=True)
class Trust:
    """Whom of the control plane a guest believes. Sent at each start, and again when a key changes."""

    ca_certificates: list[str]
    """PEM certificates of the fleet CA, newest first; more than one during a rotation."""
    token_keys: list[str]
    """Ed25519 keys (hex) that sign tokens for any route; more than one during a rotation."""
    route_keys: list[str]
    """Ed25519 keys (hex) whose tokens are good for routed requests only."""
    revoked_serials: list[str]
    """Serial numbers (hex, no leading zero) of client certificates that are refused although they verify."""
    issued_at: int
    """Whole seconds since 1970. A guest keeps the latest and never goes back."""

    @property
    def hash(self) -> str:
        """SHA-256 over all but ``issued_at``, in hex: what a guest states and the portal compares."""
        return sha256(canonical({**asdict(self), "issued_at": 0})).hexdigest()

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read one from JSON.

        Raises:
            EnrolmentError: members missing, unknown or of the wrong kind, or no CA at all.
        """
        lists = {"ca_certificates", "token_keys", "route_keys", "revoked_serials"}
        if not isinstance(document, dict) or document.keys() != lists | {"issued_at"}:
            raise EnrolmentError("malformed trust: wrong members")
        for name in lists:
            texts = document[name]
            if not isinstance(texts, list) or len(texts) > MAX_TRUSTED:
                raise EnrolmentError(f"malformed trust: {name}")
            if not all(isinstance(text, str) for text in texts):
                raise EnrolmentError(f"malformed trust: {name}")
        issued_at = document["issued_at"]
        if isinstance(issued_at, bool) or not isinstance(issued_at, int) or not document["ca_certificates"]:
            raise EnrolmentError("malformed trust: issued_at or ca_certificates")
        return cls(**document)


LIMIT_RANGES = {
    "memory_mib": (64, 16 << 20),
    "processes": (16, 4096),
    "jobs_running": (1, 64),
    "jobs_waiting": (1, 1000),
    "gateway_idle_seconds": (1, 7 * 24 * 3600),
}
"""The least and the most that each of `Limits` may be."""


@dataclass(frozen=True)
class Limits:
    """What the tenant's plan lets a guest do. Told at each start."""

    memory_mib: int
    """Of the whole guest."""
    processes: int
    """Processes and threads of the gateway, and the most that one job may have."""
    jobs_running: int
    jobs_waiting: int
    gateway_idle_seconds: int
    """How long the gateway may go unused before it is stopped, unless an owner has chosen always-on."""

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read one from JSON.

        Raises:
            EnrolmentError: members missing, unknown, of the wrong kind or out of range.
        """
        if not isinstance(document, dict) or document.keys() != LIMIT_RANGES.keys():
            raise EnrolmentError("malformed limits: wrong members")
        for name, (least, most) in LIMIT_RANGES.items():
            if type(document[name]) is not int or not least <= document[name] <= most:
                raise EnrolmentError(f"malformed limits: {name} must be a whole number, {least} to {most}")
        return cls(**document)


@dataclass(frozen=True)
class Personalisation:
    """What makes the common image one tenant's guest. All public but ``enrolment_secret``."""

    runtime_id: str
    tenant_id: str
    guest_address: str
    """IPv4 of the guest, without prefix."""
    host_address: str
    """IPv4 of the host's end of the link: the gateway, and the only peer that may call the agent."""
    prefix: int
    agent_port: int
    trust: Trust
    """As it was when the guest was started."""
    limits: Limits
    enrolment_secret: str | None = None
    """32 bytes as hex, or None once enrolment is done."""
    proxy: str | None = None
    """Where the egress proxy listens, ``address:port`` at the host's end; None: there is no way out."""
    rp_id: str = ""
    """The portal's base domain: the relying party of every passkey."""
    portal_origin: str = ""
    """Where owners sign keyrings and consents with a passkey."""
    origin: str = ""
    """The runtime's own: the only one where a passkey begins a session."""
    log_vkey: str = ""
    """Verifier key of the audit log (C2SP signed-note); the guest pins the first. Empty: there is no log."""

    def to_bytes(self) -> bytes:
        """Canonical JSON, as delivered in the credential."""
        return canonical({"version": VERSION, **asdict(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse a credential.

        Raises:
            EnrolmentError: not JSON, another version, or fields missing or unknown.
        """
        try:
            document: dict[str, Any] = json.loads(data)
            if document.pop("version") != VERSION:
                raise EnrolmentError("unknown version of the personalisation")
            parsed = {
                "trust": Trust.parse(document["trust"]),
                "limits": Limits.parse(document["limits"]),
                "proxy": _proxy(document["proxy"], document["host_address"]),
                "log_vkey": _log_vkey(document["log_vkey"]),
            }
            return cls(**{**document, **parsed})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EnrolmentError(f"malformed personalisation: {type(error).__name__}") from None

    def without_secret(self) -> Self:
        """The same, for a guest that has enrolled."""
        return replace(self, enrolment_secret=None)


def _log_vkey(value: Any) -> str:
    if value:
        return str(VerifierKey.parse(value))
    if value != "":
        raise EnrolmentError("malformed personalisation: log_vkey")
    return ""


def proxy_address(host_address: str, port: int) -> str:
    """The egress proxy as the papers name it."""
    return f"{host_address}:{port}"


def _proxy(value: Any, host_address: Any) -> str | None:
    """Only the host's end can be one: the guest reaches nothing else."""
    if value is None:
        return None
    address, _, port = value.partition(":")
    if str(ipaddress.IPv4Address(address)) != host_address or str(int(port)) != port:
        raise EnrolmentError("malformed personalisation: proxy")
    if not 0 < int(port) <= MAX_PORT:
        raise EnrolmentError("malformed personalisation: proxy")
    return str(value)
