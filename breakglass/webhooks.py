"""Tells an address outside of a ticket: https, no redirect, short time-outs, the answer not read.

In production only addresses of the public Internet are called, as for outside witnesses. The receiver checks
``X-Portal-Signature: t=<seconds since 1970>,v1=<HMAC-SHA256 over "<t>.<body>" in hex>`` with its own key.
"""

import hmac
import ssl
from hashlib import sha256

import httpx

from provisioning.deadlines import Clock
from provisioning.outside_witness import OutsideUnreachable, pinned

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
    outside = pinned(url)
    headers = {
        "Host": outside.authority,
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
                outside.target,
                content=body,
                headers=headers,
                extensions={"sni_hostname": outside.host, "trace": clock.trace},
            ) as response,
        ):
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, UnicodeError) as error:
        raise OutsideUnreachable(f"No answer ({type(error).__name__}).") from None
    if not 200 <= status < 300:
        raise OutsideUnreachable(f"It answered with the status {status}.")
