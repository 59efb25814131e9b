import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.enrolment import (
    EnrolmentError,
    Personalisation,
    Trust,
    certificate_mac,
    check_mac,
    request_mac,
)

SECRET = bytes(range(32))
TRUST = Trust(["PEM"], ["ab" * 32], [], [], 7)
PAPERS = Personalisation("r", "t", "10.0.0.2", "10.0.0.1", 30, 8443, TRUST, SECRET.hex())


def test_request_mac_known_answer() -> None:
    """Built here from RFC 2104's parts, not with the code under test."""
    fields = [b"n" * 32, b"csr", b"k" * 32]
    message = b"portal enrolment request v1\0" + b"".join(len(f).to_bytes(8, "big") + f for f in fields)
    assert request_mac(SECRET, *fields) == hmac.digest(SECRET, message, hashlib.sha256)


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_fields_cannot_flow_into_each_other(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    """Two different pairs never have the same MAC, however their bytes are split."""
    if (a, b) != (c, d):
        assert certificate_mac(SECRET, a, b) != certificate_mac(SECRET, c, d)


def test_purposes_are_apart() -> None:
    """A request's MAC is not a certificate's."""
    assert certificate_mac(SECRET, b"n", b"c") != request_mac(SECRET, b"n", b"c", b"")


def test_wrong_mac_is_refused() -> None:
    """One flipped bit is enough."""
    mac = certificate_mac(SECRET, b"n", b"c")
    check_mac(mac, mac)
    with pytest.raises(EnrolmentError):
        check_mac(mac, bytes([mac[0] ^ 1]) + mac[1:])


def test_short_secret_is_refused() -> None:
    """A secret of another length is a fault, not a weaker key."""
    with pytest.raises(EnrolmentError):
        certificate_mac(b"short", b"n", b"c")


def test_personalisation_round_trip() -> None:
    """What is written is read back; the spent form holds no secret."""
    assert Personalisation.from_bytes(PAPERS.to_bytes()) == PAPERS
    assert SECRET.hex().encode() not in PAPERS.without_secret().to_bytes()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"version":2}', b'{"version":1,"other":1}', b"\xff"])
def test_malformed_personalisation_is_refused(data: bytes) -> None:
    """With an error that repeats nothing of the content."""
    with pytest.raises(EnrolmentError):
        Personalisation.from_bytes(data)
