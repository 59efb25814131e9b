"""Known answers, made by other implementations (tests/vectors/*.mjs): the formats do not change unseen."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from protocol.approvers import ApproverSet, naming_document
from protocol.canonical import canonical
from protocol.enrolment import certificate_mac
from protocol.persons import PersonKey, Purpose, digest, sign_with_device_key, verify
from protocol.sealed import key_id, unseal
from protocol.tokens import Expected, public_key, verify_runtime_token

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "protocol.json").read_text())
SEALED: dict[str, Any] = json.loads((FOLDER / "sealed.json").read_text())
SEED = bytes.fromhex(VECTORS["seed"])
KEY = PersonKey("device", bytes.fromhex(VECTORS["public_key"]))


def test_keys() -> None:
    """The public half and its fingerprint."""
    assert public_key(SEED) == KEY.public_key
    assert KEY.fingerprint == VECTORS["fingerprint"]


@pytest.mark.parametrize("vector", VECTORS["canonical"])
def test_canonical(vector: dict[str, Any]) -> None:
    """Order of keys beyond ASCII, NFC, escapes and the largest integer."""
    assert canonical(vector["document"]).hex() == vector["hex"]


@pytest.mark.parametrize("vector", VECTORS["signatures"], ids=lambda vector: vector["purpose"])
def test_person_signatures(vector: dict[str, Any]) -> None:
    """The same digest and the same bytes for every purpose there is."""
    purpose, document = Purpose(vector["purpose"]), vector["document"]
    assert digest(purpose, document).hex() == vector["digest"]
    assert sign_with_device_key(SEED, purpose, document)["signature"] == vector["signature"]
    verify(KEY, {"kind": "device", "signature": vector["signature"]}, purpose, document)


def test_a_naming() -> None:
    """Which tenant, which version, which set: nothing else is signed, and nothing less."""
    vector, ticket = VECTORS["naming"], VECTORS["ticket"]
    document = naming_document(ticket["document"]["tenant_id"], ApproverSet.parse(ticket["approvers"]))
    assert document == vector["document"]
    assert digest(Purpose.NAMING, document).hex() == vector["digest"]
    verify(KEY, {"kind": "device", "signature": vector["signature"]}, Purpose.NAMING, document)


def test_every_purpose_has_a_vector() -> None:
    """A new purpose needs one too."""
    assert {vector["purpose"] for vector in VECTORS["signatures"]} == set(Purpose)


def test_a_token() -> None:
    """Another implementation's token is believed as it stands."""
    claims = VECTORS["token"]["claims"]
    wanted = Expected(
        claims["aud"], claims["tenant_id"], claims["htm"], claims["htp"], claims["bsh"], claims["iat"]
    )
    assert verify_runtime_token(VECTORS["token"]["compact"], [KEY.public_key], wanted).jti == claims["jti"]


def test_an_enrolment_mac() -> None:
    """Lengths before fields, purpose before both."""
    vector = VECTORS["certificate_mac"]
    nonce, certificate = map(bytes.fromhex, vector["fields"])
    assert certificate_mac(bytes.fromhex(vector["secret"]), nonce, certificate).hex() == vector["mac"]


@pytest.mark.parametrize("vector", SEALED["boxes"], ids=lambda vector: f"{len(vector['value'])} characters")
def test_a_sealed_box(vector: dict[str, str]) -> None:
    """What a browser's libsodium has sealed opens; the key's name is what it says."""
    assert key_id(bytes.fromhex(SEALED["public_key"])) == SEALED["key_id"]
    opened = unseal(bytes.fromhex(SEALED["private_key"]), b64decode(vector["sealed"], validate=True))
    assert opened == vector["value"].encode()
