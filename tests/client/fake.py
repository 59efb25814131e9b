"""A portal and a guest in this process, as far as the client sees them.

Every signature is really checked, by the protocol and by the guest's own rooms. The portal's habits that matter are
played: ``__Host-`` cookies, a session, Django's check against forged requests, JSON only. Each answer can be bent.
"""

import json
import secrets
import sys
import threading
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from guest.agent.members import Members, MembersRefused
from guest.agent.sessions import Request, Session, SessionRefused, Sessions
from protocol.keyrings import Keyring, KeyringError, accept
from protocol.persons import PersonKey, Purpose, SignatureError, Site, verify
from protocol.sealed import key_id
from tests.client.break_glass_fake import BreakGlassFake
from tests.client.gateway_fake import FakeGateway
from tests.client.jobs_fake import JobsFake
from tests.client.log_fake import LogFake
from tests.protocol.people import Device

SECRETS = "/api/v1/tenants/acme/secrets"
CONNECTORS = "/api/v1/tenants/acme/connectors"
RECORD = "/api/v1/tenants/acme/record/"
BREAK_GLASS = "/api/v1/tenants/acme/break-glass/"
PASSWORD = "a password for the tests"
Bend = Callable[["Answer"], "Answer | None"]


@dataclass
class Answer:
    """What is sent back. ``cookies``: name and value."""

    status: int = 200
    document: Any = None
    raw: bytes | None = None
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What came in."""

    method: str
    path: str
    host: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def cookies(self) -> dict[str, str]:
        jar: SimpleCookie = SimpleCookie(self.headers.get("cookie", ""))
        return {name: morsel.value for name, morsel in jar.items()}


class Refusal(Exception):
    """Becomes an answer."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class Fake:
    """The portal with one tenant, and its guest."""

    def __init__(self, folder: Path) -> None:
        self.tenant_id, self.runtime_id = str(uuid.uuid4()), str(uuid.uuid4())
        self.keys: dict[str, dict[str, Any]] = {}
        self.passwords = {"owner": PASSWORD}
        self.role = "owner"
        self.current: Keyring | None = None
        self.signature: dict[str, Any] = {}
        self.consents: dict[str, Any] | None = None
        self.deliver = True
        """Whether a keyring reaches the guest at once."""
        self.sealing = "5e" * 32
        self.secrets: dict[str, dict[str, Any]] = {}
        self.connector: dict[str, Any] = {
            "connector": "github",
            "state": "disabled",
            "change": "allowed by staff",
        }
        self.connector |= {"enabled": False, "reaches": [{"host": "github.com", "port": 443, "why": "git"}]}
        self.entries = [{"name": "notes.txt", "kind": "file", "size": 12}]
        self.stored: dict[str, bytes] = {}
        self.tar = b"x" * 512 + bytes(1024)
        self.jobs = JobsFake()
        self.gateway = FakeGateway()
        self.log = LogFake(self.tenant_id)
        self.break_glass = BreakGlassFake(self.tenant_id, self.runtime_id, self.log)
        self.asked: list[Asked] = []
        self.bent: dict[tuple[str, str], Bend] = {}
        self.nonces: dict[str, str] = {}
        self.users: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.tickets: set[str] = set()
        self.routes: set[str] = set()
        self.members: Members
        self.sessions: Sessions
        self._folder = folder
        self.port = 0

    def begin(self, port: int) -> None:
        self.port = port
        self.portal = f"http://portal.localhost:{port}"
        self.origin = f"http://acme.portal.localhost:{port}"
        self.break_glass.portal = self.portal
        self.site = Site("portal.localhost", frozenset({self.portal, self.origin}))
        self.members = Members(self._folder, self.tenant_id, self.site)
        self.sessions = Sessions(self.members, self.runtime_id, self.site)

    # What tests arrange.

    def know(self, key: PersonKey, name: str = "A name", user: str = "owner", role: str = "owner") -> None:
        """Register a key."""
        self.keys[key.fingerprint] = {
            "fingerprint": key.fingerprint,
            "kind": key.kind,
            "public_key": key.public_key.hex(),
            "credential_id": "",
            "name": name,
            "user": user,
            "role": role,
            "mine": user == "owner",
            "in_keyring": False,
            "created_at": "2026-01-01T00:00:00Z",
        }

    def show(self, document: Any, signer: Device, *, guest: bool = True) -> Keyring:
        """Have the portal show a keyring without asking anybody, and the guest take it if it will."""
        self.current = Keyring.parse(document)
        self.signature = signer.sign(Purpose.KEYRING, document)
        if guest:
            self.members.take_keyring(document, self.signature)
        return self.current

    def bend(self, method: str, path: str, **members: Any) -> None:
        """Replace members of an answer's document."""
        self.bent[method, path] = lambda answer: Answer(
            answer.status, {**answer.document, **members}, cookies=answer.cookies
        )

    def breaks(self, method: str, path: str, answer: Answer | None) -> None:
        """Give this answer instead; None hangs up."""
        self.bent[method, path] = lambda _answer: answer

    # What the portal does.

    def answer(self, asked: Asked) -> Answer | None:
        self.asked.append(asked)
        try:
            if asked.host == f"portal.localhost:{self.port}":
                given = self._portal(asked)
            elif asked.host == f"acme.portal.localhost:{self.port}":
                given = self._proxy(asked)
            else:
                given = Answer(421)
        except Refusal as refusal:
            given = Answer(refusal.status, {"code": refusal.code, "detail": f"refused: {refusal.code}"})
        bend = self.bent.get((asked.method, asked.path.partition("?")[0]))
        return bend(given) if bend else given

    def _portal(self, asked: Asked) -> Answer:
        open_to_all: dict[tuple[str, str], Callable[[Asked], Answer]] = {
            ("GET", "/sign-in/"): self._page,
            ("POST", "/sign-in/"): self._form,
            ("POST", "/api/v1/sign-in/challenge/"): self._challenge,
            ("POST", "/api/v1/sign-in/"): self._sign_in,
        }
        members_only: dict[tuple[str, str], Callable[[Asked], Answer]] = {
            ("GET", "/api/v1/tenants/acme/keyring/"): self._overview,
            ("POST", "/api/v1/tenants/acme/keys/"): self._register,
            ("POST", "/api/v1/tenants/acme/keyring/"): self._take_keyring,
            ("POST", "/api/v1/tenants/acme/consents/"): self._take_consents,
            ("POST", "/api/v1/tenants/acme/enter/"): self._enter,
            ("POST", "/sign-out/"): self._sign_out,
            ("GET", f"{CONNECTORS}/"): lambda _asked: Answer(200, {"connectors": [self.connector]}),
            ("PATCH", f"{CONNECTORS}/github/"): self._switch,
            ("GET", f"{SECRETS}/"): lambda _asked: Answer(200, {"secrets": list(self.secrets.values())}),
            ("GET", f"{SECRETS}/public-key/"): self._sealing_key,
        }
        place = (asked.method, asked.path)
        if place in open_to_all:
            return open_to_all[place](asked)
        if asked.cookies.get("__Host-session") not in self.users:
            raise Refusal(403, "not_authenticated")
        if asked.method != "GET":
            self._not_forged(asked)
        if asked.path.startswith(f"{SECRETS}/") and asked.method in {"PUT", "DELETE"}:
            return self._secret(asked, asked.path.removeprefix(f"{SECRETS}/").removesuffix("/"))
        if asked.path.startswith(RECORD):
            return Answer(*self.log.answer(asked.method, asked.path.removeprefix(RECORD), asked.body))
        if asked.path.startswith(BREAK_GLASS):
            path = asked.path.removeprefix(BREAK_GLASS)
            return Answer(*self.break_glass.answer(asked.method, path, asked.body))
        if place not in members_only:
            return Answer(404, {"detail": "Not found."})
        return members_only[place](asked)

    def _not_forged(self, asked: Asked) -> None:
        """As Django: the header equals the cookie, and the origin is our own."""
        token = asked.cookies.get("__Host-csrf")
        if (
            not token
            or asked.headers.get("x-csrftoken") != token
            or asked.headers.get("origin") != self.portal
        ):
            raise Refusal(403, "csrf")

    def _page(self, _asked: Asked) -> Answer:
        return Answer(200, raw=b"<form>", cookies={"__Host-csrf": secrets.token_hex(16)})

    def _form(self, asked: Asked) -> Answer:
        self._not_forged(asked)
        fields = parse_qs(asked.body.decode())
        if self.passwords.get(fields["username"][0]) != fields["password"][0]:
            return Answer(200, raw=b"<form>")
        return Answer(302, raw=b"", headers={"Location": "/"}, cookies=self._session(fields["username"][0]))

    def _session(self, user: str) -> dict[str, str]:
        name = secrets.token_hex(16)
        self.users[name] = user
        return {"__Host-session": name, "__Host-csrf": secrets.token_hex(16)}

    def _challenge(self, asked: Asked) -> Answer:
        assert asked.headers["content-type"] == "application/json"
        visitor, nonce = secrets.token_hex(16), secrets.token_hex(32)
        self.nonces[visitor] = nonce
        return Answer(200, {"nonce": nonce, "origin": self.portal}, cookies={"__Host-session": visitor})

    def _sign_in(self, asked: Asked) -> Answer:
        given = asked.document
        nonce = self.nonces.pop(asked.cookies.get("__Host-session", ""), None)
        if nonce is None or nonce != given["nonce"]:
            raise Refusal(403, "nonce_unknown")
        held = self.keys.get(given["fingerprint"])
        if held is None:
            raise Refusal(403, "refused")
        key = PersonKey(held["kind"], bytes.fromhex(held["public_key"]))
        try:
            document = {"nonce": nonce, "origin": self.portal}
            verify(key, given["signature"], Purpose.PORTAL, document)
        except SignatureError:
            raise Refusal(403, "refused") from None
        return Answer(204, raw=b"", cookies=self._session(held["user"]))

    def _sign_out(self, asked: Asked) -> Answer:
        del self.users[asked.cookies["__Host-session"]]
        return Answer(302, raw=b"", headers={"Location": "/sign-in/"})

    def _overview(self, _asked: Asked) -> Answer:
        keyring = self.members.keyring
        current = self.current and {
            "version": self.current.version,
            "hash": self.current.hash,
            "document": dict(self.current.document),
            "signature": self.signature,
        }
        guest = {
            "version": keyring.version if keyring else None,
            "hash": keyring.hash if keyring else "",
            "fingerprints": sorted(keyring.members) if keyring else [],
            "recovery": keyring.recovery.fingerprint if keyring else "",
            "sealing_public_key": self.sealing,
            "seen_at": "2026-01-01T00:00:00Z",
        }
        return Answer(
            200,
            {
                "tenant_id": self.tenant_id,
                "slug": "acme",
                "origin": self.origin,
                "rp_id": "portal.localhost",
                "role": self.role,
                "current": current,
                "registered": list(self.keys.values()),
                "consents": self.consents,
                "guest": guest if keyring else None,
                "guest_agrees": True,
            },
        )

    def _register(self, asked: Asked) -> Answer:
        given = asked.document
        assert given.keys() == {"kind", "name", "public_key"}
        key = PersonKey(given["kind"], bytes.fromhex(given["public_key"]))
        self.know(key, given["name"])
        return Answer(201, self.keys[key.fingerprint])

    def _take_keyring(self, asked: Asked) -> Answer:
        given = asked.document
        try:
            new = accept(self.current, given["document"], given["signature"], self.tenant_id, self.site)
        except KeyringError as error:
            raise Refusal(409, error.code) from None
        self.current, self.signature = new, given["signature"]
        if self.deliver:
            self.members.take_keyring(given["document"], given["signature"])
        return Answer(200, {"version": new.version, "hash": new.hash})

    def _take_consents(self, asked: Asked) -> Answer:
        given = asked.document
        try:
            taken = self.members.take_consents(given["document"], given["signature"])
        except MembersRefused as error:
            raise Refusal(409, error.code) from None
        self.consents = {"version": taken.version, **given}
        return Answer(200, {"version": taken.version})

    def _enter(self, _asked: Asked) -> Answer:
        ticket = secrets.token_urlsafe(24)
        self.tickets.add(ticket)
        return Answer(200, {"url": f"{self.origin}/.portal/enter?ticket={ticket}", "origin": self.origin})

    def _sealing_key(self, _asked: Asked) -> Answer:
        key = bytes.fromhex(self.sealing)
        return Answer(200, {"key_id": key_id(key), "key": b64encode(key).decode()})

    def _switch(self, asked: Asked) -> Answer:
        if self.connector["state"] == "forbidden":
            raise Refusal(409, "not_permitted")
        enabled = asked.document["enabled"]
        self.connector |= {"enabled": enabled, "state": "enabled" if enabled else "disabled"}
        return Answer(200, self.connector)

    def _secret(self, asked: Asked, name: str) -> Answer:
        if asked.method == "DELETE":
            if name not in self.secrets:
                return Answer(404, {"detail": "Not found."})
            self.secrets[name]["state"] = "revoking"
            return Answer(200, self.secrets[name])
        given = asked.document
        assert given.keys() == {"encrypted_value", "key_id", "connector"}
        version = self.secrets.get(name, {"version": 0})["version"] + 1
        self.secrets[name] = {"name": name, "version": version, "state": "waiting", "advice": ""}
        self.secrets[name] |= {"created_by": "owner", "key_id": given["key_id"]}
        return Answer(201 if version == 1 else 200, self.secrets[name])

    # What the proxy and the guest do.

    def _proxy(self, asked: Asked) -> Answer:
        parts = urlsplit(asked.path)
        if parts.path == "/.portal/enter":
            ticket = parse_qs(parts.query)["ticket"][0]
            if ticket not in self.tickets:
                raise Refusal(403, "ticket")
            self.tickets.remove(ticket)
            route = secrets.token_hex(16)
            self.routes.add(route)
            return Answer(303, raw=b"", headers={"Location": "/"}, cookies={"__Host-route": route})
        if asked.cookies.get("__Host-route") not in self.routes:
            raise Refusal(401, "no_route")
        try:
            return self._guest(asked)
        except SessionRefused as refusal:
            return Answer(403, {"error": refusal.code, "message": "sign the challenge with a member's key"})

    def _guest(self, asked: Asked) -> Answer:
        now = time.monotonic()
        if (asked.method, asked.path) == ("POST", "/v1/sessions/challenge"):
            return Answer(200, self.sessions.challenge(now))
        if (asked.method, asked.path) == ("POST", "/v1/sessions"):
            signature = asked.document["signature"]
            session = self.sessions.begin(signature.pop("nonce"), signature, now)
            return Answer(200, {"session": session.name, "seconds": 8 * 3600})
        name = asked.headers.get("portal-session", "")
        request = Request.of(asked.method, asked.path, asked.body)
        session = self.sessions.check(name, asked.headers.get("portal-proof", ""), request, now)
        return self._content(asked, session)

    def _content(self, asked: Asked, session: Session) -> Answer:
        keyring = self.members.keyring
        assert keyring is not None
        names = {
            f: entry["name"] for f, entry in zip(keyring.members, keyring.document["members"], strict=True)
        }
        listed = [
            {"name": names[f], "role": member.role, "kind": member.key.kind, "fingerprint": f}
            for f, member in keyring.members.items()
        ]
        own = next(entry for entry in listed if entry["fingerprint"] == session.member.key.fingerprint)
        if asked.path.startswith("/v1/jobs"):
            return Answer(*self.jobs.answer(asked.method, asked.path, asked.body))
        if asked.path.startswith(("/v1/gateway", "/gateway-api/")):
            return Answer(*self.gateway.answer(asked.method, asked.path, asked.body))
        where, query = urlsplit(asked.path).path, parse_qs(urlsplit(asked.path).query)
        name = query.get("path", [""])[0]
        match asked.method, where:
            case "PUT", "/v1/workspace/files":
                stated = asked.headers["x-content-sha256"]
                assert stated == Request.of("PUT", "", asked.body).body_sha256
                self.stored[name] = asked.body
                return Answer(201, {"path": name, "size": len(asked.body), "sha256": stated, "created": True})
            case "GET", "/v1/workspace/files" if name in self.stored:
                first = int(asked.headers.get("range", "bytes=0-")[6:-1])
                return Answer(206 if first else 200, raw=self.stored[name][first:])
            case "DELETE", "/v1/workspace/files" if name in self.stored:
                del self.stored[name]
                return Answer(200, {"removed": 1, "complete": True})
            case "GET", "/v1/workspace/archive":
                return Answer(200, raw=self.tar)
            case "POST", "/v1/workspace/folders":
                return Answer(201, asked.document)
            case "GET", "/v1/workspace":
                return Answer(200, {"entries": self.entries, "complete": True})
            case "GET", "/v1/witness":
                return Answer(200, self.log.machine)
            case "GET", "/v1/session":
                return Answer(200, {**own, "seconds_left": 7200})
            case "GET", "/v1/sessions":
                return Answer(200, {"sessions": [{**own, "began_seconds_ago": 60, "own": True}]})
            case "POST", "/v1/sessions/end":
                if own["role"] != "owner":
                    return Answer(403, {"error": "not_an_owner", "message": "an owner is needed"})
                return Answer(200, {"ended": 2})
            case "GET", "/v1/members":
                told = {"version": keyring.version, "hash": keyring.hash, "members": listed}
                told["recovery"] = keyring.recovery.fingerprint
                return Answer(200, {"keyring": told, "consents": {}, "sealing_public_key": self.sealing})
            case "DELETE", "/v1/session":
                self.sessions.end(session.name)
                return Answer(204, raw=b"")
        return Answer(404, {"error": "not_found", "message": "Not Found"})


class Server(ThreadingHTTPServer):
    """Says nothing about a client that has hung up: it shares its standard error with the program under test."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(folder: Path) -> Iterator[Fake]:
    """A fake that answers on the loopback until the test is over."""
    fake = Fake(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = fake.answer(Asked(self.command, self.path, headers["host"], headers, body))
            if answer is None:
                self.close_connection = True
                return
            raw = answer.raw if answer.raw is not None else json.dumps(answer.document).encode()
            self.send_response(answer.status)
            for name, value in answer.cookies.items():
                self.send_header("Set-Cookie", f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax")
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            if answer.status != 204:
                self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        fake.begin(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield fake
        server.shutdown()
        thread.join()
