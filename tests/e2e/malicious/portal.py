"""The attacker: what it holds, and how it speaks to the guest."""

import base64
import http.client
import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

from guest.agent.breakglass.scopes import RULES, About
from guest.agent.gate import ACCESS
from protocol.enrolment import CONTROL_PLANE_URI
from protocol.persons import Purpose
from protocol.tickets import Ticket
from protocol.tokens import BreakGlassToken, RuntimeToken, new_runtime_token, sign
from tests.protocol.people import Device, Passkey

Document = dict[str, Any]
OK = "ok"
"""Answers that are allowed: public facts, static pages, nonces. That they hold nothing of the tenant's is checked too."""

CUT = "cut"
"""No answer: the connection was ended."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: bytes

    @property
    def code(self) -> str:
        """The machine-readable refusal; ``ok`` for a success."""
        if 200 <= self.status < 300:
            return OK
        if not self.status:
            return CUT
        try:
            return str(json.loads(self.body)["error"])
        except (ValueError, KeyError, TypeError):
            return f"status {self.status}"

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Loot:
    """What the control plane has: read from its database, its key store and its proxy's traffic."""

    runtime_id: str
    tenant_id: str
    guest_origin: str
    portal_origin: str
    token_seed: bytes
    route_seed: bytes
    trust: Document
    """Whom of the control plane the guest believes, as it was last told."""
    keyring: Document
    """``document`` and ``signature`` of the owner's keyring."""
    approvers: list[Document]
    """Every set with its ``signatures``, oldest first; the last is in force."""
    terms: list[Document]
    """The owner's, each with ``signature``, oldest first."""
    past: Document
    """A grant that was used and has ended."""
    active: Document
    """A grant that is open in the guest now."""
    waiting: Document
    """Asked for, and approved by one person where two must be."""
    lapsed: Document
    """Approved by enough, but never used within its waiting time."""
    elsewhere: Document
    """A whole grant for another tenant's guest, approved by the same people."""
    rejection: Document
    """What an approver signed to say no to ``waiting``."""
    phished: dict[str, Document]
    """Signatures over ``waiting`` that a second approver gave on a page that is not the portal's, or unverified."""
    overheard: Document
    """The body with which the requester once began a session for ``active``, as the proxy saw it."""
    lure: Callable[[Purpose, Document], Document]
    """Has the requester of ``active`` sign anything, on a page of the portal that says it is something else."""
    cookie: str
    """The cookie of that session, which has ended since."""
    open_path: str
    """A file that ``active`` covers."""
    secret_path: str
    """One that it does not."""


@dataclass
class Way:
    """How bytes get to the guest."""

    address: str
    port: int
    identities: Mapping[str, ssl.SSLContext]
    """Client certificates by name: ``control plane``, ``proxy``, and ``made up``; the CA's key makes any."""

    def send(
        self, who: str, method: str, path: str, body: bytes, headers: Mapping[str, str | list[str]]
    ) -> Answer:
        """One request on a connection of its own."""
        link = http.client.HTTPSConnection(self.address, self.port, context=self.identities[who], timeout=30)
        try:
            link.putrequest(method, path, skip_accept_encoding=True)
            for name, values in headers.items():
                for value in [values] if isinstance(values, str) else values:
                    link.putheader(name, value)
            link.putheader("Content-Length", str(len(body)))
            link.endheaders(body)
            response = link.getresponse()
            return Answer(response.status, response.read(1 << 24), str(response.headers).encode())
        except (ConnectionError, ssl.SSLError, http.client.HTTPException):
            return Answer(0, b"", b"")
        finally:
            link.close()


@dataclass
class Portal:
    """The attacker."""

    loot: Loot
    way: Way
    heard: list[Answer] = field(default_factory=list)
    me: Passkey = field(default_factory=Passkey)
    """A passkey of its own making."""
    device: Device = field(default_factory=lambda: Device(b"\x66" * 32))

    def token(self, method: str, path: str, body: bytes | None, **changed: Any) -> RuntimeToken:
        """A runtime token for this request. Each names another actor, so that no rate limit helps the guest."""
        made = new_runtime_token(
            issuer=CONTROL_PLANE_URI,
            runtime_id=self.loot.runtime_id,
            tenant_id=self.loot.tenant_id,
            actor=f"user:{uuid.uuid4()}",
            role="owner",
            method=method,
            path=path,
            body=body,
            now=int(time.time()),
        )
        return replace(made, **changed)

    def glass(
        self, method: str, path: str, body: bytes | None, grant: Document, **changed: Any
    ) -> BreakGlassToken:
        """A break-glass token for the ticket of ``grant``, true but for what is ``changed``."""
        ticket = Ticket.parse(grant["document"])
        claims: dict[str, Any] = {
            "ticket": ticket.ticket,
            "scopes": list(ticket.scopes),
            "paths": list(ticket.paths),
            "digest": ticket.digest,
        }
        return BreakGlassToken(**{**asdict(self.token(method, path, body)), **claims, **changed})

    def ask(
        self,
        method: str,
        path: str,
        body: Any = b"",
        *,
        token: RuntimeToken | str | None = None,
        seed: bytes | None = None,
        who: str = "control plane",
        headers: Mapping[str, str | list[str]] | None = None,
    ) -> Answer:
        """One request, with a perfect runtime token unless another is given."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        shown = token or self.token(method, path, data)
        text = shown if isinstance(shown, str) else sign(shown, seed or self.loot.token_seed)
        usual = {
            "Authorization": f"Bearer {text}",
            "X-Content-SHA256": sha256(data).hexdigest(),
            "Sec-Fetch-Site": "same-origin",
            "Origin": self.loot.guest_origin,
        }
        answer = self.way.send(who, method, path, data, {**usual, **(headers or {})})
        self.heard.append(answer)
        return answer

    def ask_under(
        self, grant: Document, method: str, path: str, body: Any = b"", cookie: str = "", **changed: Any
    ) -> Answer:
        """One request with a break-glass token. ``changed``: of its claims."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        token = self.glass(method, path, data, grant, **changed)
        headers = {"Cookie": f"__Host-bg={cookie}"} if cookie else {}
        return self.ask(method, path, data, token=token, headers=headers)

    def grant(self, grant: Document, **changed: Any) -> Answer:
        """Deliver a grant."""
        return self.ask("PUT", "/v1/grants", {"grant": {**grant, **changed}})

    def challenge(self, grant: Document) -> str:
        """The guest's nonce for a session under ``grant``; empty where it gives none."""
        answer = self.ask_under(grant, "POST", "/v1/break-glass/challenge", {})
        return str(answer.document["nonce"]) if answer.code == OK else ""

    def begin(self, grant: Document, nonce: str, signature: Document) -> Answer:
        """Show ``signature`` for a session."""
        body = {"signature": {**signature, "nonce": nonce}}
        return self.ask_under(grant, "POST", "/v1/break-glass/sessions", body)

    def signed(self, document: Document, purpose: Purpose, **claimed: Any) -> Document:
        """By its own passkey, at the right place, with the user verified: it can claim anything but a key."""
        return {**self.me.sign(purpose, document, origin=self.loot.portal_origin), **claimed}


Attempt = Callable[[Portal], Iterator[Answer]]
ATTEMPTS: dict[str, tuple[frozenset[str], Attempt]] = {}


def attempt(*codes: str) -> Callable[[Attempt], Attempt]:
    """Add a row: its answers must be of ``codes``, and of each of them."""

    def added(tried: Attempt) -> Attempt:
        ATTEMPTS[tried.__name__] = frozenset(codes), tried
        return tried

    return added


# What they need


def approvers_of(portal: Portal) -> list[str]:
    """The fingerprints of the keys of the set in force."""
    listed = portal.loot.approvers[-1]["document"]["approvers"]
    return [sha256(b"passkey\0" + bytes.fromhex(one["public_key"])).hexdigest() for one in listed]


def owner_of(portal: Portal) -> str:
    """The fingerprint of the owner's key."""
    return str(portal.loot.keyring["signature"]["by"])


def own_set(portal: Portal, version: int) -> Document:
    """A set whose only approver is the attacker."""
    now = portal.loot.approvers[-1]["document"]
    me = {"kind": "passkey", "public_key": portal.me.key.public_key.hex(), "person": "user:1", "name": "Ann"}
    previous = None if version == 1 else now["previous"]
    policy = dict.fromkeys(now["policy"], 1)
    return {"version": version, "previous": previous, "threshold": 1, "policy": policy, "approvers": [me]}


def renewed(portal: Portal, document: Document) -> Document:
    """The ticket under a new name, from now on, asked for by the attacker."""
    now = int(time.time())
    requester = {"person": "user:666", "name": "Mal", "key": portal.me.key.public_key.hex()}
    fresh = {"ticket": str(uuid.uuid4()), "asked_at": now, "wait_until": now + 3600}
    return {**document, **fresh, "requester": requester}


def hash_of(document: Document) -> str:
    """As sets and keyrings are named; made without the project's code."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def routes_under(portal: Portal) -> Iterator[tuple[str, str, Any]]:
    """A well-formed request for every access route."""
    for (method, route), rule in RULES.items():
        if (method, route) not in ACCESS:
            continue
        path = portal.loot.open_path
        yield {
            About.NOTHING: (method, route, {} if method == "POST" else b""),
            About.QUERY_PATH: (method, f"{route}?path={path}", b"overwritten" if method == "PUT" else b""),
            About.BODY_PATH: (method, route, {"path": f"{path}.d"}),
            About.LOG: (method, f"{route}?name=agent", b""),
            About.COMMAND: (method, route, {"argv": ["cat", path], "cwd": "", "seconds": 5}),
        }[rule.about]


def by_hand(header: Document, claims: Document, signer: Callable[[bytes], bytes]) -> str:
    """A token of whatever kind."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    said = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    return f"{said}.{part(signer(said.encode()))}"
