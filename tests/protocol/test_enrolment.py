import hashlib
import hmac
import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.enrolment import (
    LIMIT_RANGES,
    EnrolmentError,
    Limits,
    Personalisation,
    Trust,
    certificate_mac,
    check_mac,
    request_mac,
)

SECRET = bytes(range(32))
TRUST = Trust(["PEM"], ["ab" * 32], [], [], 7)
LIMITS = Limits(512, 512, 2, 20, 1800)
PAPERS = Personalisation("r", "t", "10.0.0.2", "10.0.0.1", 30, 8443, TRUST, LIMITS, SECRET.hex())


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


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"version":5}', b'{"version":4,"other":1}', b"\xff"])
def test_malformed_personalisation_is_refused(data: bytes) -> None:
    """With an error that repeats nothing of the content."""
    with pytest.raises(EnrolmentError):
        Personalisation.from_bytes(data)


@pytest.mark.parametrize("proxy", [None, "10.0.0.1:1", "10.0.0.1:3128", "10.0.0.1:65535"])
def test_a_proxy_is_the_hosts_end_and_a_port(proxy: str | None) -> None:
    assert Personalisation.from_bytes(_with(proxy=proxy)).proxy == proxy


@pytest.mark.parametrize(
    "proxy",
    [
        *("", "10.0.0.1", ":3128", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:-1"),
        *("10.0.0.1:03128", "10.0.0.1: 3128", "10.0.0.1:3128 ", "10.0.0.1:3128\n", "10.0.0.1:٣١٢٨"),
        # Another place than the host's end, however it is written, and what is no place at all.
        *("10.0.0.2:3128", "127.0.0.1:3128", "10.0.1:3128", "010.0.0.1:3128", "[::1]:3128", "proxy:3128"),
        *("10.0.0.1:3128 A=b", "http://10.0.0.1:3128", 3128, True, ["10.0.0.1:3128"], {}),
    ],
)
def test_no_other_proxy_is_taken(proxy: Any) -> None:
    """It becomes part of every process's environment and of the rules of who may send what."""
    with pytest.raises(EnrolmentError):
        Personalisation.from_bytes(_with(proxy=proxy))


def test_papers_say_whether_there_is_a_proxy() -> None:
    """A guest that is told nothing would not know that it is told too little."""
    document = json.loads(PAPERS.to_bytes())
    assert document.pop("proxy") is None
    with pytest.raises(EnrolmentError):
        Personalisation.from_bytes(json.dumps(document).encode())


def _with(**changed: Any) -> bytes:
    return json.dumps({**json.loads(PAPERS.to_bytes()), **changed}).encode()


def _with_limits(limits: Any) -> bytes:
    return _with(limits=limits)


@pytest.mark.parametrize("name", LIMIT_RANGES)
def test_limits_are_whole_numbers_in_their_range(name: str) -> None:
    """Both ends belong to it; the next number beyond, a text, a truth value and a fraction do not."""
    good = asdict(LIMITS)
    for value in LIMIT_RANGES[name]:
        assert asdict(Personalisation.from_bytes(_with_limits(good | {name: value})).limits)[name] == value
    least, most = LIMIT_RANGES[name]
    for bad in (least - 1, most + 1, True, str(least), least + 0.5, None):
        with pytest.raises(EnrolmentError):
            Personalisation.from_bytes(_with_limits(good | {name: bad}))


def test_limits_have_exactly_their_members() -> None:
    """A guest that does not know a limit would not keep it."""
    good = asdict(LIMITS)
    bad: list[Any] = [None, [], good | {"more": 1}, {n: v for n, v in good.items() if n != "processes"}]
    for limits in bad:
        with pytest.raises(EnrolmentError):
            Personalisation.from_bytes(_with_limits(limits))
