"""Signatures by people: a passkey's assertion, or a device key's plain Ed25519 signature (DESIGN §4).

Both are over ``SHA-256(purpose ‖ NUL ‖ canonical document)``. The purpose keeps a signature given for one use
from being shown for another. Source of the assertion's checks: W3C Web Authentication Level 2, §7.2.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from protocol.canonical import canonical

MAX_SIGNATURE_BYTES = 4096
MAX_PASSKEY_BYTES = 512
_USER_PRESENT = 0x01
_USER_VERIFIED = 0x04


class Purpose(StrEnum):
    """Everything that a person signs. A signature for one is worthless for another."""

    SESSION = "member session v1"
    REQUEST = "member request v1"
    KEYRING = "keyring v1"
    CONSENT = "consent v1"
    PORTAL = "portal sign-in v1"
    """A device key signs the command line in at the portal; opens nothing in a guest."""
    APPROVERS = "approver set v1"
    """By a quorum of approvers, over the set that follows theirs."""
    NAMING = "break-glass naming v1"
    """By an owner, over the first set that the owner's own guest is to believe, and over that tenant."""
    RECOVERY = "keyring recovery v1"
    """By a quorum of approvers, when owners have lost their keys and the recovery key."""
    APPROVAL = "break-glass approval v1"
    ACCESS_REQUEST = "break-glass request v1"
    """By the requester, over the ticket that approvers then sign."""
    REJECTION = "break-glass rejection v1"
    OWNER_APPROVAL = "break-glass owner approval v1"
    """By an owner of the tenant, where the terms want one."""
    TERMS = "break-glass terms v1"
    ACCESS = "break-glass session v1"
    """By the requester again, over the guest's own nonce."""


class SignatureError(ValueError):
    """A signature that must not be believed; the message says which check failed."""


@dataclass(frozen=True)
class PersonKey:
    """A public key that guests pin."""

    kind: str
    """``device`` (Ed25519) or ``passkey`` (WebAuthn credential)."""
    public_key: bytes
    """Device: 32 bytes. Passkey: SubjectPublicKeyInfo in DER, of P-256 or Ed25519."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over kind and key in hex: what people compare and what names the key."""
        return sha256(self.kind.encode() + b"\0" + self.public_key).hexdigest()


def passkey(public_key: bytes) -> PersonKey:
    """A passkey's key, in the one spelling that it has: otherwise one key would have several fingerprints.

    Raises:
        ValueError: no P-256 or Ed25519 key, or not its SubjectPublicKeyInfo as DER writes it, the point
            uncompressed (RFC 5480 §2.2, which allows others, too).
    """
    try:
        key = _loaded(public_key)
    except SignatureError as error:
        raise ValueError(str(error)) from None
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public_key:
        raise ValueError("the key is spelt in another way than its own")
    return PersonKey("passkey", public_key)


def passkey_of(text: Any) -> PersonKey:
    """As :func:`passkey`, from hexadecimal digits in lower case. Raises ValueError."""
    if not isinstance(text, str) or len(text) > 2 * MAX_PASSKEY_BYTES:
        raise ValueError("the key is no text or too long")
    public_key = bytes.fromhex(text)
    if public_key.hex() != text:
        raise ValueError("the key's digits are spelt in another way")
    return passkey(public_key)


@dataclass(frozen=True)
class Site:
    """Where a passkey may have been used."""

    rp_id: str
    origins: Collection[str]


def digest(purpose: Purpose, document: Any) -> bytes:
    """What is signed: 32 bytes. Raises CanonicalError."""
    return sha256(purpose.encode() + b"\0" + canonical(document)).digest()


def sign_with_device_key(seed: bytes, purpose: Purpose, document: Any) -> dict[str, str]:
    """A device key's signature, for the command line. ``seed``: 32 bytes."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    return {"kind": "device", "signature": encode(key.sign(digest(purpose, document)))}


def verify(
    key: PersonKey, signature: Mapping[str, Any], purpose: Purpose, document: Any, site: Site | None = None
) -> None:
    """Check that the holder of ``key`` signed ``document`` for ``purpose``.

    Raises:
        SignatureError: it is not so, or the signature is malformed. A passkey needs a ``site``.
    """
    if signature.get("kind") != key.kind:
        raise SignatureError("another kind of key")
    expected = digest(purpose, document)
    if key.kind == "device":
        _verify_device(key.public_key, decode(signature, "signature"), expected)
    elif key.kind == "passkey" and site is not None:
        _verify_assertion(key.public_key, signature, expected, site)
    else:
        raise SignatureError("unknown kind of key")


def encode(data: bytes) -> str:
    """Base64url without padding, as WebAuthn writes bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(document: Mapping[str, Any], name: str) -> bytes:
    """The bytes of member ``name``, of which there is only one spelling.

    Raises:
        SignatureError: absent, too long or not base64url.
    """
    text = document.get(name)
    if not isinstance(text, str) or len(text) > MAX_SIGNATURE_BYTES:
        raise SignatureError(f"{name} is missing or too long")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(f"{name} is not base64url") from None
    if encode(data) != text:
        raise SignatureError(f"{name} is not base64url")
    return data


def _verify_device(public_key: bytes, signature: bytes, expected: bytes) -> None:
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public_key).verify(signature, expected)
    except (InvalidSignature, ValueError):
        raise SignatureError("the signature does not fit") from None


def _verify_assertion(public_key: bytes, signature: Mapping[str, Any], expected: bytes, site: Site) -> None:
    client_data = decode(signature, "client_data")
    authenticator_data = decode(signature, "authenticator_data")
    _check_client_data(client_data, expected, site)
    _check_authenticator_data(authenticator_data, site)
    signed = authenticator_data + sha256(client_data).digest()
    _check_passkey_signature(public_key, decode(signature, "signature"), signed)


def _check_client_data(raw: bytes, expected: bytes, site: Site) -> None:
    try:
        client_data = json.loads(raw)
    except (ValueError, RecursionError):
        raise SignatureError("client_data is not JSON") from None
    if not isinstance(client_data, dict) or client_data.get("type") != "webauthn.get":
        raise SignatureError("not an assertion")
    challenge = client_data.get("challenge")
    if not isinstance(challenge, str) or not hmac.compare_digest(
        challenge.encode(), encode(expected).encode()
    ):
        raise SignatureError("another challenge")
    if client_data.get("origin") not in site.origins or client_data.get("crossOrigin", False) is not False:
        raise SignatureError("another origin")


def _check_authenticator_data(data: bytes, site: Site) -> None:
    if len(data) < 37:
        raise SignatureError("authenticator_data is too short")
    if not hmac.compare_digest(data[:32], sha256(site.rp_id.encode()).digest()):
        raise SignatureError("another relying party")
    wanted = _USER_PRESENT | _USER_VERIFIED
    if data[32] & wanted != wanted:
        raise SignatureError("the user was not verified")


def _check_passkey_signature(public_key: bytes, signature: bytes, signed: bytes) -> None:
    key = _loaded(public_key)
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignatureError("the signature does not fit") from None


def _loaded(public_key: bytes) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(public_key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SignatureError("the key cannot be read") from None
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise SignatureError("an algorithm that is not accepted")
