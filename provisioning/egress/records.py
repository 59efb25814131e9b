"""Squid's access log: one line for each attempt of a guest to get out, as ``squid.py`` has it written. Pure.

Names in it are a guest's own words. A line is cut into fields at single spaces, which Squid lets into none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

FORMAT = (
    "1 %ts.%03tu %tr %{runtime}note %>la %>rm %>rd %>rP %>st %<st %ssl::bump_mode %{reason}note %Ss %err_code"
)
MAX_LINE = 8192
"""Bytes of one line that are read; Squid's own limit for a request is what keeps lines shorter."""
REASONS: Mapping[str, str] = {
    "name": "no connector of this tenant allows that host and port",
    "method": "the proxy takes nothing but CONNECT, no plain HTTP",
    "sni": "the TLS hello asked for another name than CONNECT did",
    "no_sni": "the TLS hello asked for no name",
    "not_tls": "what came after CONNECT was not TLS",
    "no_hello": "no TLS hello came within ten seconds",
    "range": "the name leads to a private, local or reserved address",
    "dns": "the name leads to no IPv4 address",
    "invalid": "the request could not be read",
    "unreachable": "allowed, but the other side did not answer",
    "closed": "the guest hung up, or the proxy was reloaded, before the connection stood",
}
"""What a record's reason means; to be shown to people."""
_FIELDS = 14
_LINE = re.compile(r"[0-9]{1,12}\.[0-9]{3}")
_TEXT = re.compile(r"[^\x21-\x7e]")
_MAX_HOST = 253
_MAX_PORT = 65535
_EARLY = {"ERR_PROTOCOL_UNKNOWN": "not_tls", "ERR_REQUEST_START_TIMEOUT": "no_hello"}


class RecordError(ValueError):
    """A line that Squid does not write."""


@dataclass(frozen=True)
class Record:
    """One attempt."""

    at_ms: int
    """When it ended, milliseconds since the epoch."""
    milliseconds: int
    """How long it took."""
    runtime: UUID | None
    """None where the request could not be read: then only ``listen`` tells whose it was."""
    listen: str
    """The host's end of the guest's link."""
    host: str
    """As the guest named it, at most 253 printable characters; empty if it named none."""
    port: int
    """0 if it named none."""
    bytes_up: int
    bytes_down: int
    verdict: Literal["allowed", "refused"]
    reason: str
    """A key of ``REASONS``; empty for a connection that stood."""


def parse(line: str) -> Record | None:
    """The attempt in one line without its ending; None if it is only the rest of an attempt told elsewhere.

    Raises:
        RecordError: not a line of ours.
    """
    parts = line.split(" ")
    if len(parts) != _FIELDS or parts[0] != "1" or not _LINE.fullmatch(parts[1]):
        raise RecordError("a line of the access log has another form")
    _, at, took, runtime, listen, method, host, port, up, down, mode, reason, status, error = parts
    if method == "-" and _number(down) == 0:
        return None  # what was left in a connection that Squid closed
    verdict, why = _verdict(method, mode, reason, status, error)
    return Record(
        at_ms=int(at.replace(".", "")),
        milliseconds=_number(took),
        runtime=None if runtime == "-" else _uuid(runtime),
        listen=listen,
        host="" if host == "-" else _TEXT.sub("?", host)[:_MAX_HOST],
        port=_port(port),
        bytes_up=_number(up),
        bytes_down=_number(down),
        verdict=verdict,
        reason=why,
    )


def complete(data: bytes) -> tuple[list[bytes], int]:
    """The whole lines at the beginning of ``data``, without endings, and how many bytes they take."""
    taken = data.rfind(b"\n") + 1
    return data[:taken].split(b"\n")[:-1], taken


def _verdict(
    method: str, mode: str, reason: str, status: str, error: str
) -> tuple[Literal["allowed", "refused"], str]:
    if status.startswith("TCP_TUNNEL"):
        return "allowed", ""
    if reason != "-":
        return "refused", reason if reason in REASONS else "invalid"
    if method == "-":
        return "refused", "invalid"
    if mode == "peek":
        return "refused", _EARLY.get(error, "closed")
    return ("allowed", "unreachable") if mode == "splice" else ("refused", "invalid")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise RecordError("a number of the access log is none")
    return int(text)


def _port(text: str) -> int:
    number = 0 if text == "-" else _number(text)
    return number if number <= _MAX_PORT else 0


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise RecordError("a runtime of the access log is none") from None
