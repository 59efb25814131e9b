"""What a browser answers when it has made a passkey, without any browser. Each part can be made to lie."""

import json
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from protocol.persons import encode
from tests.protocol.people import RP_ID, Passkey

PORTAL = "http://portal.localhost:8000"
PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def cose_of(passkey: Passkey) -> dict[int, Any]:
    """An ES256 key as COSE."""
    numbers = passkey.private.public_key().public_numbers()
    x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
    return {1: 2, 3: -7, -1: 1, -2: x, -3: y}


def cose_of_ed25519(key: Ed25519PrivateKey) -> dict[int, Any]:
    """An EdDSA key as COSE."""
    return {1: 1, 3: -8, -1: 6, -2: key.public_key().public_bytes_raw()}


def cose_of_rsa(key: RSAPublicKey) -> dict[int, Any]:
    """An RS256 key as COSE, which is not accepted."""
    numbers = key.public_numbers()
    return {1: 3, 3: -257, -1: numbers.n.to_bytes(256, "big"), -2: numbers.e.to_bytes(3, "big")}


def creation(
    challenge: str,
    cose: dict[int, Any],
    *,
    credential_id: bytes = b"credential",
    flags: int = PRESENT | VERIFIED | ATTESTED,
    rp_id: str = RP_ID,
    **client: Any,
) -> dict[str, Any]:
    """A PublicKeyCredential as JSON. ``client`` replaces members of the client data."""
    data = {
        "type": "webauthn.create",
        "challenge": challenge,
        "origin": PORTAL,
        "crossOrigin": False,
        **client,
    }
    attested = bytes(16) + len(credential_id).to_bytes(2, "big") + credential_id + cbor2.dumps(cose)
    authenticator = sha256(rp_id.encode()).digest() + bytes([flags]) + bytes(4) + attested
    return {
        "id": encode(credential_id),
        "rawId": encode(credential_id),
        "type": "public-key",
        "response": {
            "clientDataJSON": encode(json.dumps(data).encode()),
            "attestationObject": encode(
                cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": authenticator})
            ),
        },
    }
