"""Asks a witness outside by its URL (C2SP tlog-witness): https, no redirect, short time-outs, small answers.

In production only addresses of the public Internet are called, and the one that was looked at is the one that
is called: a name given by staff leads into no guest's network and to nothing on this machine.
"""

import ipaddress
import socket
import ssl
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from audit.witness_urls import url_problem
from protocol.checkpoints import CheckpointError, parse_size
from provisioning.verdicts import Verdict

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
MAX_ANSWER_BYTES = 16 * 1024
SIZE_TYPE = "text/x.tlog.size"
_REFUSALS = {400: "malformed", 403: "signature", 404: "origin", 422: "proof"}
"""What a status says, as C2SP tlog-witness has it; 409 says more."""


class OutsideUnreachable(Exception):
    """No answer that could be understood; the message says why, in plain words."""


def add_checkpoint(url: str, body: str, old: int, size: int) -> Verdict:
    """Offer a checkpoint over ``size`` leaves to a witness that is thought to hold ``old``.

    Raises:
        OutsideUnreachable: it does not answer, or not as C2SP says.
    """
    if problem := url_problem(url):
        raise OutsideUnreachable(problem)
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = _address(host, parts.port or (443 if parts.scheme == "https" else 80))
    target = parts._replace(
        netloc=f"{f'[{address}]' if ':' in address else address}{f':{parts.port}' if parts.port else ''}",
        path=f"{parts.path.rstrip('/')}/add-checkpoint",
    ).geturl()
    try:
        with (
            httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST",
                target,
                content=body.encode(),
                headers={"Host": parts.netloc, "Content-Type": "text/plain; charset=utf-8"},
                extensions={"sni_hostname": host},
            ) as response,
        ):
            return _verdict(response.status_code, response.headers, _text(response), old, size)
    except (httpx.HTTPError, ssl.SSLError, OSError) as error:
        raise OutsideUnreachable(f"No answer ({type(error).__name__}).") from None


def _text(response: httpx.Response) -> str:
    content = b""
    for chunk in response.iter_bytes():
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
        return Verdict(reason=_REFUSALS[status], size=old)
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


def _address(host: str, port: int) -> str:
    """The first of the host's addresses, all of which must be public in production."""
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError:
        raise OutsideUnreachable("Its name has no address.") from None
    if settings.PRODUCTION and not all(ipaddress.ip_address(each).is_global for each in found):
        raise OutsideUnreachable("Its name leads to an address that is not of the public Internet.")
    return found[0]
