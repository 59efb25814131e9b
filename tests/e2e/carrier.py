"""Carries a browser's requests to an agent, as the portal and its proxy do: only tokens are added."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.guest.fleet import Agent, Caller

PASSED = (
    *("Cookie", "Origin", "Sec-Fetch-Site", "Content-Type", "X-Content-SHA256", "Range", "If-Range"),
    "If-Match",
    "Content-Length",
)
BACK = ("Content-Type", "Content-Length", "Content-Range", "Content-Disposition", "Set-Cookie", "ETag")
Token = Callable[[str, str], str]
"""For a method and a path, query included."""


@dataclass
class Carrier:
    """Where it listens, and what it puts into Authorization; both may change while it runs."""

    port: int
    token: Token
    agent: Agent | None = None


@contextmanager
def carrying(caller: Caller, token: Token) -> Iterator[Carrier]:
    """One on a free port of loopback, for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def carry(self) -> None:
            assert carrier.agent is not None
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size) if size else None
            headers = {name: self.headers[name] for name in PASSED if name in self.headers}
            headers["Authorization"] = f"Bearer {carrier.token(self.command, self.path)}"
            line = http.client.HTTPSConnection(
                "127.0.0.1", carrier.agent.port, context=caller.context(), timeout=90
            )
            try:
                line.request(self.command, self.path, body, headers)
                answer = line.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException):
                self.send_error(502)
                return
            finally:
                line.close()
            self.send_response(answer.status)
            kept = {name.lower() for name in BACK} | {"content-security-policy", "cross-origin-opener-policy"}
            for name, value in answer.getheaders():
                if name.lower() in kept - {"content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = carry

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        carrier = Carrier(server.server_port, token)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield carrier
        finally:
            server.shutdown()
            thread.join()
