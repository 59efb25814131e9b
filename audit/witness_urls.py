"""Which URLs an outside witness may have."""

import ipaddress
from urllib.parse import urlsplit

from django.conf import settings


def url_problem(url: str) -> str:
    """What is wrong with a witness's URL, in words for its author; empty if nothing is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:  # UnicodeError is one
        return "Give https://host/path."
    if not host or port == 0 or parts.username or parts.query or parts.fragment:
        return "Give https://host/path: no user, no query, no fragment."
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return ""
    return "Give an https:// URL."


def _is_loopback(host: str) -> bool:
    """For trying it out on one machine; in production nothing is sent in the clear."""
    if settings.PRODUCTION:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
