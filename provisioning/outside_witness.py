"""Asks a witness outside by its URL (C2SP tlog-witness): https, no redirect, short time-outs, small answers.

In production only addresses of the public Internet are called, and the one that was looked at is the one that
is called: a name given by staff leads into no guest's network and to nothing on this machine.
"""

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from audit.witness_urls import url_problem
from protocol.checkpoints import CheckpointError, parse_size
from provisioning.deadlines import Clock
from provisioning.verdicts import Verdict

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
DEADLINE = 20.0
"""Seconds for the whole question. The time-outs above begin anew with each byte."""
MAX_ANSWER_BYTES = 16 * 1024
SIZE_TYPE = "text/x.tlog.size"
_REFUSALS = {400: "malformed", 403: "signature", 404: "origin", 422: "proof"}
"""What a status says, as C2SP tlog-witness has it; 409 says more."""
_PROXIES_SAY_TOO = frozenset({400, 403, 404})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Leads to the IPv4 address in its last four bytes, whichever that is."""


class OutsideUnreachable(Exception):
    """No answer that could be understood; the message says why, in plain words."""


def add_checkpoint(url: str, body: str, old: int, size: int) -> Verdict:
    """Offer a checkpoint over ``size`` leaves to a witness that is thought to hold ``old``.

    Raises:
        OutsideUnreachable: it does not answer, or not as C2SP says.
    """
    outside = pinned(url, "add-checkpoint")
    clock = Clock()
    try:
        with (
            clock.running(DEADLINE),
            httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST",
                outside.target,
                content=body.encode(),
                headers={
                    "Host": outside.authority,
                    "Content-Type": "text/plain; charset=utf-8",
                    "Accept-Encoding": "identity",
                },
                extensions={"sni_hostname": outside.host, "trace": clock.trace},
            ) as response,
        ):
            text = _text(response)
            _check(clock)
            return _verdict(response.status_code, response.headers, text, old, size)
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, UnicodeError) as error:
        _check(clock)
        raise OutsideUnreachable(f"No answer ({type(error).__name__}).") from None


def _check(clock: Clock) -> None:
    if clock.over:  # what was read may be cut short
        raise OutsideUnreachable(f"No whole answer within {DEADLINE:.0f} s.")


def _text(response: httpx.Response) -> str:
    if "Content-Encoding" in response.headers:  # a few bytes could become any number
        raise OutsideUnreachable("Its answer is compressed, which nobody asked for.")
    content = b""
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise OutsideUnreachable("Its answer is too long.")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise OutsideUnreachable("Its answer is not text.") from None


def _verdict(status: int, headers: httpx.Headers, text: str, old: int, size: int) -> Verdict:
    if status == 200:
        return Verdict(lines=text)
    if status in _REFUSALS:
        return Verdict(reason=_REFUSALS[status], size=old, sure=status not in _PROXIES_SAY_TOO)
    if status != 409:
        raise OutsideUnreachable(f"It answered with the status {status}.")
    if headers.get("Content-Type", "").partition(";")[0].strip() != SIZE_TYPE:
        return Verdict(reason="forked", size=old)
    try:
        held = parse_size(text.removesuffix("\n"))
    except CheckpointError:
        raise OutsideUnreachable("It says that it holds another size, but not which.") from None
    if held == old:
        return Verdict(reason="forked", size=held)
    return Verdict(reason="smaller" if held > size else "stale", size=held)


@dataclass(frozen=True)
class Outside:
    """A URL whose name was looked up once: what was looked at is what is called."""

    target: str
    """The URL, with the address for the name."""
    host: str
    """The name, for TLS."""
    authority: str
    """What the header ``Host`` says."""


def pinned(url: str, below: str = "") -> Outside:
    """Where ``url``, or what is ``below`` it, is called. Raises OutsideUnreachable: nowhere."""
    if problem := url_problem(url):
        raise OutsideUnreachable(problem)
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = _address_of(host, parts.port or (443 if parts.scheme == "https" else 80))
    shown = f"[{address}]" if ":" in address else address
    target = parts._replace(
        netloc=f"{shown}:{parts.port}" if parts.port else shown,
        path=f"{parts.path.rstrip('/')}/{below}" if below else parts.path,
    )
    return Outside(target.geturl(), host, parts.netloc)


def _address_of(host: str, port: int) -> str:
    """The first of the host's addresses, all of which must be public in production."""
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise OutsideUnreachable("Its name has no address.") from None
    if settings.PRODUCTION and not all(map(_is_public, found)):
        raise OutsideUnreachable("Its name leads to an address that is not of the public Internet.")
    return found[0]


def _is_public(text: str) -> bool:
    """One machine of the public Internet. Multicast and NAT64 count as global, and lead elsewhere."""
    address = ipaddress.ip_address(text)
    return address.is_global and not address.is_multicast and address not in _NAT64
