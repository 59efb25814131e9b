"""A member at the workspace, for tests: an agent as a real process, and a session that proves each request."""

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from protocol.sessions import PROOF_HEADER, SESSION_HEADER, Request, prove
from protocol.tokens import sign
from tests.guest.conftest import Site
from tests.guest.fleet import TOKEN_SEED, Agent, token
from tests.protocol.people import OWNER, Device

FILES = "/v1/workspace/files"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.document["error"])


@dataclass
class Person:
    """Somebody signed in with a device key."""

    agent: Agent
    site: Site
    session: str
    counter: int = 0
    who: Device = field(default_factory=lambda: OWNER)

    def headers(self, method: str, path: str, stated: str) -> dict[str, str]:
        """Perfect ones for a body whose hash is ``stated``. Another actor each time: no limit of requests."""
        self.counter += 1
        text = sign(
            token(method, path, None, bsh=stated, sub=f"user:{self.who.seed[0]}-{self.counter}"),
            TOKEN_SEED,
        )
        shown = prove(self.who.seed, self.session, Request(method, path, stated), self.counter)
        return {"Authorization": f"Bearer {text}", SESSION_HEADER: self.session, PROOF_HEADER: shown}

    def line(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.agent.port, context=self.site.control_plane.context(), timeout=30
        )

    def ask(self, method: str, path: str, body: bytes = b"", **more: str) -> Reply:
        headers = self.headers(method, path, sha256(body).hexdigest())
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        line = self.line()
        try:
            line.request(method, path, body or None, headers)
            got = line.getresponse()
            return Reply(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        finally:
            line.close()

    def put(self, path: str, body: bytes | Iterable[bytes], stated: str | None = None, **more: str) -> Reply:
        whole = body if isinstance(body, bytes) else b""
        stated = sha256(whole).hexdigest() if stated is None else stated
        where = at(FILES, path=path)
        headers = self.headers("PUT", where, stated) | {"X-Content-SHA256": stated}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        line = self.line()
        try:
            line.request("PUT", where, body, headers)
            got = line.getresponse()
            return Reply(got.status, dict(got.getheaders()), got.read())
        finally:
            line.close()

    def get(self, path: str, **more: str) -> Reply:
        return self.ask("GET", at(FILES, path=path), b"", **more)

    def delete(self, path: str, **query: str) -> Reply:
        return self.ask("DELETE", at(FILES, path=path, **query))

    def list(self, path: str = "", **query: str) -> Reply:
        return self.ask("GET", at("/v1/workspace/list", path=path, **query))

    def make_folder(self, path: str) -> Reply:
        return self.ask("POST", "/v1/workspace/folders", json.dumps({"path": path}).encode())


def at(route: str, **query: str) -> str:
    return f"{route}?{urlencode(query, errors='surrogateescape')}"
