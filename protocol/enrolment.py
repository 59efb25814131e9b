"""Enrolment: how a fresh guest and the control plane recognise each other once.

Both sides hold one secret of 32 bytes that the control plane put into the guest's personalisation.
Each message is authenticated by HMAC-SHA-256 over ``purpose ‖ NUL ‖ fields``, every field preceded by
its length (8 bytes, big endian), so that no two different messages have the same bytes.
"""

import hmac
import json
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, Self

from protocol.canonical import canonical

SECRET_BYTES = 32
NONCE_BYTES = 32
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
    ca_certificates: list[str]
    """PEM certificates of the fleet CA, newest first; more than one during a rotation."""
    enrolment_secret: str | None = None
    """32 bytes as hex, or None once enrolment is done."""
    token_keys: list[str] = field(default_factory=list)
    """Ed25519 keys (hex) that sign runtime tokens; more than one during a rotation. None: no door opens."""
    rp_id: str = ""
    """The portal's base domain: the relying party of every passkey."""
    origins: list[str] = field(default_factory=list)
    """Where a passkey's assertion for this guest may come from."""

    def to_bytes(self) -> bytes:
        """Canonical JSON, as delivered in the credential."""
        return canonical({"version": 1, **asdict(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse a credential.

        Raises:
            EnrolmentError: not JSON, another version, or fields missing or unknown.
        """
        try:
            document: dict[str, Any] = json.loads(data)
            if document.pop("version") != 1:
                raise EnrolmentError("unknown version of the personalisation")
            return cls(**document)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EnrolmentError(f"malformed personalisation: {type(error).__name__}") from None

    def without_secret(self) -> Self:
        """The same, for a guest that has enrolled."""
        return replace(self, enrolment_secret=None)
