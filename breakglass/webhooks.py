"""Tells an address outside of a ticket: https, no redirect, short time-outs, the answer not read.

In production only addresses of the public Internet are called, as for outside witnesses. The receiver checks
``X-Portal-Signature: t=<seconds since 1970>,v1=<HMAC-SHA256 over "<t>.<body>" in hex>`` with its own key.
"""

import hmac
import ssl
from hashlib import sha256
from urllib.parse import urlsplit

import httpx

from audit.witness_urls import url_problem
from provisioning.deadlines import Clock
from provisioning.outside_witness import OutsideUnreachable, address_of

TIMEOUT = httpx.Timeout(5.0, connect=5.0)
DEADLINE = 10.0
"""Seconds for the whole call."""


def signature(key: bytes, body: bytes, at: int) -> str:
    """The header's value."""
    return f"t={at},v1={hmac.new(key, f'{at}.'.encode() + body, sha256).hexdigest()}"


def post(url: str, key: bytes, body: bytes, at: int) -> None:
    """Send ``body``, which is JSON.

    Raises:
        OutsideUnreachable: no answer of the kind 2xx; the message says why.
    """
    if problem := url_problem(url):
        raise OutsideUnreachable(problem)
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = address_of(host, parts.port or (443 if parts.scheme == "https" else 80))
    shown = f"[{address}]" if ":" in address else address
    target = parts._replace(netloc=f"{shown}:{parts.port}" if parts.port else shown).geturl()
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "X-Portal-Signature": signature(key, body, at),
    }
    clock = Clock()
    try:
        with (
            clock.running(DEADLINE),
            httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST",
                target,
                content=body,
                headers=headers,
                extensions={"sni_hostname": host, "trace": clock.trace},
            ) as response,
        ):
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, UnicodeError) as error:
        raise OutsideUnreachable(f"No answer ({type(error).__name__}).") from None
    if not 200 <= status < 300:
        raise OutsideUnreachable(f"It answered with the status {status}.")
