"""What of a request reaches the gateway, and what of its answer comes back: lists of what passes.

The gateway's page shares its origin with the agent's own page, and what the gateway reads may turn it.
So its answers are fenced in: a script of its page reaches ``/gateway`` and nothing else of this origin.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes, urlsplit

from multidict import CIMultiDict, CIMultiDictProxy

from guest.agent.gateway.errors import GatewayRefused
from guest.agent.pages import HEADERS as OWN_HEADERS
from guest.gateway.config import BASE_PATH, Headers

PAGE = BASE_PATH
"""Where the gateway's own page lies, here and there."""
API = "/gateway-api"
"""What comes after it is the gateway's path."""
FORWARDED_FOR = "203.0.113.5"
"""An address for documents (RFC 5737): the gateway wants one that is not loopback and need not know whose."""
SCOPES = {
    "owner": "operator.read,operator.write,operator.approvals",
    "member": "operator.read,operator.write",
}
"""Never ``operator.admin``, for the configuration is the agent's. Without the header it grants all."""
ASKED = ("Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "Range", "If-Range")
ANSWERED = ("Content-Type", "Content-Disposition", "Content-Range", "Accept-Ranges", "Retry-After")
ENCODINGS = frozenset({"gzip", "br", "deflate"})
MAX_PATH = 2048
_CHARACTERS = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/%-]*")
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")
_ESCAPES = re.compile(r"%(?![0-9A-Fa-f]{2})")
_POLICY = re.compile(r"[\x20-\x2b\x2d-\x7e]{1,4096}")  # no comma: that would be a second policy


def upstream(raw: str) -> str:
    """The gateway's path and query for the raw ones that came.

    Raises:
        GatewayRefused: 400 ``bad_path``.
    """
    path, _, query = raw.partition("?")
    sound = len(raw) <= MAX_PATH and _CHARACTERS.fullmatch(path) and _QUERY.fullmatch(query)
    if not sound or _ESCAPES.search(raw) or "//" in path or not all(map(_plain, path.split("/"))):
        raise GatewayRefused(
            400, "bad_path", "write the path plainly: no dots alone, no double or coded slashes"
        )
    if path.startswith(f"{API}/v1/"):
        return raw[len(API) :]
    if path == PAGE or path.startswith(f"{PAGE}/"):
        return raw
    raise GatewayRefused(400, "bad_path", "nothing of the gateway lies there")


def _plain(segment: str) -> bool:
    """Whether nobody on the way could read it as more or less than one name."""
    read = unquote_to_bytes(segment)
    forbidden = any(mark in read for mark in b"/\\%?#;") or any(byte < 32 or byte == 127 for byte in read)
    return read not in {b".", b".."} and not forbidden


def asked(given: Mapping[str, str], names: Headers, user: str, role: str) -> CIMultiDict[str]:
    """The headers of a request to the gateway."""
    passed = CIMultiDict({name: given[name] for name in ASKED if name in given})
    passed["X-Forwarded-For"] = FORWARDED_FOR
    passed["x-openclaw-scopes"] = SCOPES[role]
    passed[names.user] = user
    passed[names.request] = "1"
    return passed


def fence(origin: str) -> dict[str, str]:
    """The headers of every answer from below ``/gateway``."""
    parts = urlsplit(origin)
    here, socket = f"{origin}{PAGE}/", f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{PAGE}"
    policy = {
        "default-src": "'none'",
        # The gateway's own policy, which is sent too, says which scripts may stand in its page.
        "script-src": f"{here} 'unsafe-inline'",
        "style-src": f"{here} 'unsafe-inline'",
        "img-src": f"{here} data: blob:",
        "media-src": f"{here} data: blob:",
        "font-src": here,
        "manifest-src": here,
        "connect-src": f"{here} {socket} {socket}/",
        "worker-src": "'none'",
        "frame-src": "'none'",
        "object-src": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    return OWN_HEADERS | {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        # With the opener policy it makes a browser part this page from every other one of this origin.
        "Cross-Origin-Embedder-Policy": "require-corp",
        # No passkey is asked for there: a signature of an owner's could change who opens this machine.
        "Permissions-Policy": ", ".join(
            f"{feature}=()"
            for feature in (
                *("publickey-credentials-get", "publickey-credentials-create", "camera", "microphone"),
                *("geolocation", "display-capture", "payment", "usb", "serial", "hid", "midi"),
            )
        ),
    }


def answered(given: CIMultiDictProxy[str], fenced: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers of an answer, of the gateway's ``given`` ones those that do no harm.

    No cookie, no word about other paths, nothing that is kept: what a gateway once said must not outlive it.
    """
    passed = CIMultiDict({name: given[name] for name in ANSWERED if name in given})
    if given.get("Content-Encoding", "").lower() in ENCODINGS:
        passed["Content-Encoding"] = given["Content-Encoding"]
    where = given.get("Location", "")
    if where.startswith(f"{PAGE}/") and _harmless(where):
        passed["Location"] = where
    passed.extend(fenced)
    own = given.get("Content-Security-Policy", "")
    # Two policies hold both, so the gateway's can only take away. It gets no reports sent anywhere.
    if _POLICY.fullmatch(own) and "report" not in own.lower():
        passed.add("Content-Security-Policy", own)
    return passed


def _harmless(where: str) -> bool:
    try:
        return upstream(where) == where
    except GatewayRefused:
        return False
