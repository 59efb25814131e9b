"""Lines of Squid's access log, as they were seen, and as an attacker would have them."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.egress.records import REASONS, RecordError, complete, parse

RUNTIME = "00000000-0000-0000-0000-0000000000a0"


def line(**changed: str) -> str:
    fields = {
        "version": "1", "at": "1795684845.866", "took": "2", "runtime": RUNTIME, "listen": "10.99.0.1", "method": "CONNECT",
        "host": "api.github.com", "port": "443", "up": "637", "down": "1455", "mode": "splice", "reason": "-",
        "status": "TCP_TUNNEL", "error": "-",
    }  # fmt: skip
    return " ".join((fields | changed).values())


def test_a_tunnel_that_stood() -> None:
    record = parse(line())
    assert record is not None
    assert (record.at_ms, record.milliseconds) == (1795684845866, 2)
    assert (record.runtime, record.listen) == (UUID(RUNTIME), "10.99.0.1")
    assert (record.host, record.port, record.bytes_up, record.bytes_down) == (
        "api.github.com",
        443,
        637,
        1455,
    )
    assert (record.verdict, record.reason) == ("allowed", "")


@pytest.mark.parametrize(
    ("changed", "verdict", "reason"),
    [
        ({"status": "NONE_NONE", "reason": "name", "error": "ERR_FORWARDING_DENIED"}, "refused", "name"),
        ({"status": "NONE_NONE", "mode": "terminate", "reason": "sni"}, "refused", "sni"),
        ({"status": "NONE_NONE", "mode": "peek", "error": "ERR_PROTOCOL_UNKNOWN"}, "refused", "not_tls"),
        ({"status": "NONE_NONE", "mode": "peek", "error": "ERR_REQUEST_START_TIMEOUT"}, "refused", "no_hello"),
        ({"status": "NONE_NONE", "mode": "peek"}, "refused", "closed"),
        ({"status": "NONE_NONE"}, "allowed", "unreachable"),
        ({"status": "TCP_TUNNEL_ABORTED"}, "allowed", ""),
        ({"status": "TCP_DENIED", "mode": "-", "reason": "method", "method": "GET"}, "refused", "method"),
        ({"status": "NONE_NONE", "mode": "-", "method": "-", "host": "-", "port": "-", "runtime": "-"}, "refused", "invalid"),
        ({"status": "SOMETHING_NEW", "mode": "-"}, "refused", "invalid"),
        ({"status": "NONE_NONE", "reason": "new"}, "refused", "invalid"),
    ],
)  # fmt: skip
def test_every_other_end_of_an_attempt(changed: dict[str, str], verdict: str, reason: str) -> None:
    record = parse(line(**changed))
    assert record is not None
    assert (record.verdict, record.reason) == (verdict, reason)
    assert reason == "" or reason in REASONS


def test_what_is_left_of_a_connection_is_no_attempt() -> None:
    assert parse(line(method="-", down="0")) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"version": "2"}, {"at": "now"}, {"took": "-1"}, {"runtime": "x"}, {"port": "x"}, {"up": "1e3"}, {"down": "9" * 19},
        {"error": "- -"}, {"at": "1.1234"}, {"up": "٣"},
    ],
)  # fmt: skip
def test_a_line_of_another_form_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(RecordError):
        parse(line(**changed))


@given(st.text(max_size=200))
def test_no_line_raises_anything_else(text: str) -> None:
    try:
        parse(text)
    except RecordError:
        return


@given(st.text(min_size=1, max_size=400).filter(lambda text: " " not in text))
def test_a_guests_words_come_out_short_and_printable(host: str) -> None:
    record = parse(line(host=host))
    assert record is not None
    assert len(record.host) <= 253
    assert record.host == "" or (record.host.isascii() and record.host.isprintable())


def test_half_a_line_waits() -> None:
    assert complete(b"") == ([], 0)
    assert complete(b"ab") == ([], 0)
    assert complete(b"ab\ncd\nef") == ([b"ab", b"cd"], 6)
