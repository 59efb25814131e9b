"""People for the tests: owners and members with device keys, and a passkey made without any browser."""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from protocol.approvers import ApproverSet, naming_document
from protocol.persons import PersonKey, Purpose, digest, encode, sign_with_device_key

RP_ID = "portal.localhost"
ORIGIN = "http://acme.portal.localhost:8000"


@dataclass
class Device:
    """Somebody with a device key."""

    seed: bytes

    @property
    def key(self) -> PersonKey:
        raw = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return PersonKey("device", raw)

    def sign(self, purpose: Purpose, document: Any) -> dict[str, str]:
        return {**sign_with_device_key(self.seed, purpose, document), "by": self.key.fingerprint}


@dataclass
class Passkey:
    """An authenticator in software; each member can be made to lie."""

    private: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def key(self) -> PersonKey:
        der = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return PersonKey("passkey", der)

    def sign(
        self,
        purpose: Purpose,
        document: Any,
        *,
        rp_id: str = RP_ID,
        flags: int = 0x05,
        counter: int = 0,
        **client: Any,
    ) -> dict[str, str]:
        """An assertion. ``client`` replaces members of the client data."""
        client_data = json.dumps(
            {
                "type": "webauthn.get",
                "challenge": encode(digest(purpose, document)),
                "origin": ORIGIN,
                "crossOrigin": False,
                **client,
            }
        ).encode()
        data = sha256(rp_id.encode()).digest() + bytes([flags]) + counter.to_bytes(4, "big")
        signature = self.private.sign(data + sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        return {
            "kind": "passkey",
            "by": self.key.fingerprint,
            "client_data": encode(client_data),
            "authenticator_data": encode(data),
            "signature": encode(signature),
        }


OWNER, MEMBER, RECOVERY, STRANGER = (Device(bytes([n]) * 32) for n in (1, 2, 3, 4))


def spellings(key: PersonKey) -> dict[str, bytes]:
    """Other SubjectPublicKeyInfos of a P-256 passkey, which all load as the same key."""
    public = load_der_public_key(key.public_key)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    point, head = key.public_key[-65:], key.public_key[:-65]
    squeezed = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    # The lengths of the whole and of the bit string are the second byte and the last but one.
    short = head[:1] + bytes([head[1] - 32]) + head[2:-2] + bytes([head[-2] - 32]) + head[-1:]
    return {
        "compressed": short + squeezed,
        "hybrid": head + bytes([6 + point[-1] % 2]) + point[1:],
    }


def naming(by: "Device | Passkey", document: Any, tenant_id: str, **lies: Any) -> dict[str, str]:
    """An owner's naming of the set ``document`` for one tenant."""
    named = naming_document(tenant_id, ApproverSet.parse(document))
    return by.sign(Purpose.NAMING, named, **lies)


def entry(key: PersonKey, role: str = "owner", name: str = "A name") -> dict[str, Any]:
    """A member as a keyring lists it."""
    return {"kind": key.kind, "public_key": key.public_key.hex(), "role": role, "name": name}


def keyring(tenant_id: str, *members: dict[str, Any], version: int = 1, previous: str | None = None) -> Any:
    """A keyring document; its only member is the owner unless others are given."""
    return {
        "version": version,
        "tenant_id": tenant_id,
        "previous": previous,
        "members": list(members) or [entry(OWNER.key)],
        "recovery": {"kind": "device", "public_key": RECOVERY.key.public_key.hex()},
    }
