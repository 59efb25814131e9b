"""Signatures by people: each check of an assertion, alone, and against another implementation."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from webauthn import verify_authentication_response
from webauthn.helpers import encode_cbor
from webauthn.helpers.exceptions import InvalidAuthenticationResponse

from protocol.persons import (
    PersonKey,
    Purpose,
    SignatureError,
    Site,
    decode,
    digest,
    passkey,
    passkey_of,
    verify,
)
from tests.protocol.people import OWNER, RP_ID, STRANGER, Passkey, spellings

SITE = Site(RP_ID, {"http://acme.portal.localhost:8000", "http://portal.localhost:8000"})
DOCUMENT = {"nonce": "ab", "runtime_id": "r"}


def refused(key: PersonKey, signature: dict[str, Any], purpose: Purpose = Purpose.SESSION) -> str:
    with pytest.raises(SignatureError) as refusal:
        verify(key, signature, purpose, DOCUMENT, SITE)
    return str(refusal.value)


@pytest.mark.parametrize("person", [OWNER, Passkey()], ids=["device", "passkey"])
def test_a_good_signature(person: Any) -> None:
    """Believed for its purpose and document only, and only from its own key."""
    signature = person.sign(Purpose.SESSION, DOCUMENT)
    verify(person.key, signature, Purpose.SESSION, DOCUMENT, SITE)
    for purpose in set(Purpose) - {Purpose.SESSION}:
        refused(person.key, signature, purpose)
    with pytest.raises(SignatureError):
        verify(person.key, signature, Purpose.SESSION, {**DOCUMENT, "nonce": "ac"}, SITE)
    refused(STRANGER.key, signature)
    refused(Passkey().key, signature)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"rp_id": "evil.localhost"}, "relying party"),
        ({"rp_id": "localhost"}, "relying party"),
        ({"flags": 0x01}, "not verified"),
        ({"flags": 0x04}, "not verified"),
        ({"flags": 0x00}, "not verified"),
        ({"origin": "http://evil.portal.localhost:8000"}, "origin"),
        ({"origin": "http://acme.portal.localhost"}, "origin"),
        ({"crossOrigin": True}, "origin"),
        ({"crossOrigin": None}, "origin"),
        ({"type": "webauthn.create"}, "assertion"),
        ({"challenge": "AAAA"}, "challenge"),
        ({"challenge": None}, "challenge"),
    ],
)
def test_each_check_of_an_assertion(lie: dict[str, Any], reason: str) -> None:
    """The rest of the assertion is right and rightly signed, so only this check can refuse it."""
    passkey = Passkey()
    assert reason in refused(passkey.key, passkey.sign(Purpose.SESSION, DOCUMENT, **lie))


def test_without_a_site_no_passkey() -> None:
    """A guest that was told no origin takes no passkey."""
    passkey = Passkey()
    with pytest.raises(SignatureError):
        verify(passkey.key, passkey.sign(Purpose.SESSION, DOCUMENT), Purpose.SESSION, DOCUMENT, None)


@pytest.mark.parametrize("member", ["signature", "client_data", "authenticator_data", "kind"])
@pytest.mark.parametrize("value", [None, "", 7, "A", "====", "\u00e4", "A" * 5000, "AA=="])
def test_malformed(member: str, value: Any) -> None:
    """Anything that is no signature is refused and raises nothing else."""
    passkey = Passkey()
    refused(passkey.key, {**passkey.sign(Purpose.SESSION, DOCUMENT), member: value})


def test_only_known_curves() -> None:
    """A key on another curve is refused even if its signature fits."""
    passkey = Passkey(ec.generate_private_key(ec.SECP384R1()))
    assert "algorithm" in refused(passkey.key, passkey.sign(Purpose.SESSION, DOCUMENT))


def test_another_implementation_agrees() -> None:
    """py_webauthn believes what we believe, and refuses the same lies."""
    passkey = Passkey()
    numbers = passkey.private.public_key().public_numbers()
    cose = encode_cbor(
        {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
    )

    def theirs(**lie: Any) -> None:
        made = passkey.sign(Purpose.SESSION, DOCUMENT, **lie)
        verify_authentication_response(
            credential={
                "id": "AA",
                "rawId": "AA",
                "type": "public-key",
                "response": {
                    "clientDataJSON": made["client_data"],
                    "authenticatorData": made["authenticator_data"],
                    "signature": made["signature"],
                },
            },
            expected_challenge=digest(Purpose.SESSION, DOCUMENT),
            expected_rp_id=SITE.rp_id,
            expected_origin=sorted(SITE.origins),
            credential_public_key=cose,
            credential_current_sign_count=0,
            require_user_verification=True,
        )

    theirs()
    for lie in ({"rp_id": "evil"}, {"flags": 0x01}, {"origin": "http://evil"}, {"type": "webauthn.create"}):
        with pytest.raises(InvalidAuthenticationResponse):
            theirs(**lie)


@pytest.mark.parametrize("how", ["compressed", "hybrid"])
def test_a_passkey_has_one_spelling(how: str) -> None:
    """The same key under another fingerprint would be another person's."""
    key = Passkey().key
    assert passkey(key.public_key) == passkey_of(key.public_key.hex()) == key
    other = spellings(key)[how]
    assert load_der_public_key(other) == load_der_public_key(key.public_key)
    with pytest.raises(ValueError, match="another way"):
        passkey(other)
    with pytest.raises(ValueError, match="another way"):
        passkey_of(other.hex())


@pytest.mark.parametrize("bad", [None, 7, "", "zz", "00" * 91, "00" * 600])
def test_what_is_no_passkey(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"key|fromhex"):
        passkey_of(bad)
    with pytest.raises(ValueError, match="digits"):
        passkey_of(Passkey().key.public_key.hex().upper())


def test_one_spelling() -> None:
    """Bits that base64 would drop make another text, which is refused: no signature has two forms."""
    assert decode({"s": "AA"}, "s") == b"\0"
    with pytest.raises(SignatureError):
        decode({"s": "AB"}, "s")
