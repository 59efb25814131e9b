"""What a hostile guest says to its proxy: name to the request, what follows it, and the answers that are no harm.

Nothing of it may reach anything outside. The same list, and more, is tried without a guest in ``tests/egress``.
"""

from tests.egress.hello import hello, renamed, two_names
from tests.egress.outside import Answer
from tests.egress.world import API, EVIL, METADATA, PRIVATE, SITE

REFUSED = (403,)
BAD = (0, 400, 403, 405, 411, 414, 431, 501)
ANY = (0, 200, *BAD)
"""Where what follows the answer is the attack: the tunnel may stand, and must lead nowhere."""

LEADS_ASTRAY = {
    "codeload.github.com": Answer(a=(PRIVATE,)),
    "objects.githubusercontent.com": Answer(a=(METADATA,)),
    "uploads.github.com": Answer(a=("198.51.100.10", PRIVATE)),
    "release-assets.githubusercontent.com": Answer(a=("127.0.0.1",)),
    "github-cloud.githubusercontent.com": Answer(aaaa=("2001:db8:77::1",)),
}
"""Names that the tenant may reach, and that resolve to what nobody may."""


def _connect(target: str, more: str = "") -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{more}\r\n".encode()


_PLACES = {
    "an address": "198.51.100.10:443",
    "a private address": f"{PRIVATE}:443",
    "metadata": f"{METADATA}:80",
    "the host's loopback": "127.0.0.1:22",
    "localhost": "localhost:443",
    "IPv6": "[2001:db8:77::1]:443",
    "IPv4 in IPv6": "[::ffff:198.51.100.10]:443",
    "an address as one number": "3405803786:443",
    "a name that is not allowed": f"{EVIL}:443",
    "a name below an allowed one": f"x.{API}:443",
    "an allowed name below another": f"{API}.evil.example:443",
    "another port": f"{API}:22",
    "the port of plain HTTP": f"{API}:80",
}
_HELLOS = {
    "another name": hello(EVIL),
    "another allowed name": hello(SITE),
    "no name": hello(None),
    "a name with NUL": renamed(hello(API), API, b"api.github.co\x00"),
    "two names": two_names(hello(EVIL), EVIL, API),
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(600),
    "a broken record": b"\x16\x03\x01\x00\x05hello" * 100,
    "a second CONNECT": _connect(f"{EVIL}:443"),
}
_REQUESTS = {
    "GET": b"GET http://api.github.com/ HTTP/1.1\r\nHost: api.github.com\r\n\r\n",
    "GET of https": b"GET https://api.github.com/ HTTP/1.1\r\nHost: api.github.com\r\n\r\n",
    "POST elsewhere": b"POST http://evil.example/ HTTP/1.1\r\nHost: api.github.com\r\nContent-Length: 3\r\n\r\nabc",
    "FTP": b"GET ftp://api.github.com/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "WebSocket": b"GET ws://api.github.com/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "cache manager": b"GET cache_object://egress/info HTTP/1.1\r\nHost: egress\r\n\r\n",
    "cache manager by HTTP": b"GET http://egress:3128/squid-internal-mgr/info HTTP/1.1\r\nHost: egress\r\n\r\n",
    "TRACE": b"TRACE http://api.github.com/ HTTP/1.1\r\nHost: api.github.com\r\nMax-Forwards: 0\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another Host": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: api.github.com:443\r\n\r\n",
    "NUL in the name": b"CONNECT api.github.com\x00.evil.example:443 HTTP/1.1\r\n\r\n",
    "two lengths": _connect(f"{API}:443", "Content-Length: 3\r\nContent-Length: 5\r\n"),
    "64 KiB of header": _connect(f"{API}:443", "X: " + "a" * 65536 + "\r\n"),
    "SOCKS": b"\x05\x01\x00\x05\x01\x00\x03\x0eapi.github.com\x01\xbb\r\n\r\n",
    "PROXY protocol": b"PROXY TCP4 10.99.0.6 10.99.0.5 1 3128\r\nCONNECT evil.example:443 HTTP/1.1\r\n\r\n",
}
_SMUGGLED = {
    "in a body": _connect(f"{API}:443", "Content-Length: 38\r\n") + _connect(f"{EVIL}:443"),
    "in chunks": _connect(f"{API}:443", "Transfer-Encoding: chunked\r\n")
    + b"0\r\n\r\n"
    + _connect(f"{EVIL}:443"),
    "in a body of two lengths": _connect(f"{API}:443", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    "in a folded line": b"CONNECT api.github.com:443 HTTP/1.1\r\nHost: api.github.com\r\n evil.example\r\n\r\n",
    "behind it": _connect(f"{API}:443") + _connect(f"{EVIL}:443"),
    "before it": b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n" + _connect(f"{API}:443"),
}

SAID: dict[str, tuple[bytes, bytes, tuple[int, ...]]] = {
    **{f"CONNECT to {name}": (_connect(to), hello(API), REFUSED) for name, to in _PLACES.items()},
    **{
        f"CONNECT to {name}, which leads astray": (_connect(f"{name}:443"), hello(name), REFUSED)
        for name in LEADS_ASTRAY
    },
    **{f"inside CONNECT: {name}": (_connect(f"{API}:443"), then, (200,)) for name, then in _HELLOS.items()},
    **{f"request: {name}": (request, b"", BAD) for name, request in _REQUESTS.items()},
    **{f"smuggled {name}": (request, hello(EVIL), ANY) for name, request in _SMUGGLED.items()},
}
