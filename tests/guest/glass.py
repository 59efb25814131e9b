"""Break-glass of a guest without its agent: a clock that tests move, and one handler behind every access route."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any, ClassVar

from aiohttp import ClientResponse, ClientSession, web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from guest.agent.answers import PATIENCE, errors_as_json
from guest.agent.breakglass.access import BreakGlass
from guest.agent.breakglass.grants import Ground, Moment, Opened
from guest.agent.breakglass.guard import COOKIE, Guard
from guest.agent.breakglass.marks import Marks
from guest.agent.breakglass.receipts import Chain
from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.breakglass.scopes import RULES, About
from guest.agent.breakglass.sessions import OperatorSessions
from guest.agent.breakglass.store import Store
from guest.agent.breakglass.terms import PinnedTerms
from guest.agent.breakglass.visits import visit_of
from guest.agent.members import Members
from guest.agent.recovery import Recovery
from protocol.access_receipts import START, check_chain
from protocol.persons import Purpose, Site
from protocol.tickets import Ticket
from protocol.tokens import BreakGlassToken, new_runtime_token
from tests.protocol.people import MEMBER, ORIGIN, OWNER, RP_ID, Device, Passkey, entry, keyring, naming
from tests.protocol.ticketing import PORTAL_ORIGIN, PORTAL_SITE, RAE, RUNTIME_ID, TENANT_ID, a_set, a_ticket

BOTH = Site(RP_ID, frozenset({PORTAL_ORIGIN, ORIGIN}))
OWN = Site(RP_ID, frozenset({ORIGIN}))
SEED = b"\x07" * 32
OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": ORIGIN}


@dataclass
class Clock:
    """Both clocks of the machine."""

    wall: int = field(default_factory=lambda: int(time()))
    monotonic: float = 1000.0
    right: bool = True

    def __call__(self) -> Moment:
        return Moment(self.wall, self.monotonic)

    def go(self, seconds: int) -> None:
        self.wall += seconds
        self.monotonic += seconds


@dataclass
class Glass:
    """One guest, with Ann, Ben and Cat as approvers. After each test all are closed."""

    made: ClassVar[list["Glass"]] = []
    folder: Path
    clock: Clock = field(default_factory=Clock)
    boot: str = "first boot"
    members: Members = field(init=False)
    recovery: Recovery = field(init=False)
    terms: PinnedTerms = field(init=False)
    store: Store = field(init=False)
    access: BreakGlass = field(init=False)

    def __post_init__(self) -> None:
        self.members = Members(self.folder, TENANT_ID, BOTH)
        if self.members.keyring is None:
            document = keyring(TENANT_ID, entry(OWNER.key), entry(MEMBER.key, "member"))
            self.members.take_keyring(document, OWNER.sign(Purpose.KEYRING, document))
        self.recovery = Recovery(self.folder, self.members, TENANT_ID, BOTH)
        if self.recovery.approvers is None:
            self.recovery.take_approvers(a_set(), [naming(OWNER, a_set(), TENANT_ID)])
        self.terms = PinnedTerms(self.folder, self.members, TENANT_ID, BOTH)
        ground = Ground(
            members=self.members,
            recovery=self.recovery,
            terms=self.terms,
            tenant_id=TENANT_ID,
            runtime_id=RUNTIME_ID,
            site=PORTAL_SITE,
            clock_is_right=lambda _: self.clock.right,
        )
        self.store = Store(self.folder)
        chain = Chain(self.store, RUNTIME_ID, SEED)
        sessions = OperatorSessions(OWN)
        self.access = BreakGlass(
            self.store, chain, ground, sessions, self.boot, Marks(self.folder), self.clock
        )
        self.made.append(self)

    def restarted(self, boot: str = "") -> "Glass":
        """The agent of the same volume, started again: in this start of the machine, or in another."""
        self.access.close()
        return Glass(self.folder, self.clock, boot or self.boot)

    def take_terms(self, by: Device = OWNER, **changed: Any) -> None:
        """As the route does."""
        usual = {"version": 1, "tenant_id": TENANT_ID, "ordinary": "approvers", "emergency": "approvers"}
        document = usual | changed
        self.terms.take(document, by.sign(Purpose.TERMS, document))
        self.access.changed()

    def receipts(self) -> list[dict[str, Any]]:
        """All, and they follow each other."""
        found = self.access.chain.page(0)
        assert check_chain(found, START, runtime_id=RUNTIME_ID) == self.access.chain.position
        return found

    def events(self) -> list[str]:
        return [each["event"] for each in self.receipts()]

    def ends(self) -> list[str]:
        return [each["detail"]["code"] for each in self.receipts() if each["event"] == "ended"]

    def refusal(self, ticket: str) -> str:
        """The code with which the ticket's access is refused now, or ``open``."""
        try:
            self.access.standing(ticket)
        except BreakGlassRefused as refusal:
            return refusal.code
        return "open"

    def session(self, opened: Opened, by: Passkey = RAE) -> str:
        """The name of a new session of the operator's."""
        asked = self.access.challenge(opened)
        signature = by.sign(Purpose.ACCESS, asked)
        return self.access.begin_session(opened.ticket, asked["nonce"], signature, "a-token").name


def bg_token(opened: Opened, method: str, path: str, **changed: Any) -> BreakGlassToken:
    """What the portal would sign for this request, but for what is ``changed``."""
    return token_of(opened.ticket, method, path, **changed)


def token_of(about: Ticket, method: str, path: str, **changed: Any) -> BreakGlassToken:
    """The same, by the ticket alone."""
    claims = new_runtime_token(
        issuer="portal",
        runtime_id=RUNTIME_ID,
        tenant_id=TENANT_ID,
        actor="user:9",
        role="operator",
        method=method,
        path=path,
        body=None,
        now=int(time()),
    )
    usual = {
        "ticket": about.ticket,
        "scopes": list(about.scopes),
        "paths": list(about.paths),
        "digest": about.digest,
    }
    return BreakGlassToken(**(vars(claims) | usual | changed))


@dataclass
class Server:
    """The guard of a guest, with a handler behind each access route that says what it got."""

    glass: Glass
    url: str
    client: ClientSession
    tokens: list[BreakGlassToken] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    going: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a request is being served that goes on until it is cut."""

    async def ask(
        self, opened: Opened, method: str, path: str, session: str = "", body: Any = None, **changed: Any
    ) -> ClientResponse:
        """One request of the operator's browser; the portal's token is perfect but for what is ``changed``."""
        self.tokens.append(bg_token(opened, method, path, **changed))
        headers = OWN_PAGE | ({"Cookie": f"{COOKIE}={session}"} if session else {})
        return await self.client.request(method, self.url + path, json=body, headers=headers)

    async def code(self, *given: Any, **more: Any) -> str:
        """``ok``, or the code of the refusal."""
        answer = await self.ask(*given, **more)
        said = await answer.json() if answer.status != 204 else {}
        return "ok" if answer.status < 300 else str(said["error"])


@asynccontextmanager
async def served(
    glass: Glass, handlers: Mapping[tuple[str, str], Handler] | None = None
) -> AsyncIterator[Server]:
    """The guard on a port of loopback, for the time of the block; behind it ``handlers``, else the one."""
    guard = Guard(glass.access, ORIGIN)

    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await guard.visit(request, handler, found.tokens.pop())

    async def handler(request: web.Request) -> web.StreamResponse:
        visit = visit_of(request)
        found.reached.append(f"{request.method} {request.path} {visit.path}")
        if "offset" in request.query_string:
            return await _goes_on(request)
        visit.done(bytes=3)
        return web.json_response({"path": visit.path})

    async def _goes_on(request: web.Request) -> web.StreamResponse:
        visit = visit_of(request)
        response = web.StreamResponse()
        await response.prepare(request)
        with visit.access.cuts.held(visit.ticket.ticket, lambda: found.killed.append(visit.ticket.ticket)):
            await response.write(b"some")
            found.going.set()
            await asyncio.sleep(60)
        return response

    app = web.Application(middlewares=[errors_as_json, gate])
    app[PATIENCE] = 5.0
    usual: dict[tuple[str, str], Handler] = dict.fromkeys(
        [*RULES, ("GET", "/v1/break-glass/unruled")], handler
    )
    behind = handlers or usual
    app.add_routes([web.route(method, path, each) for (method, path), each in behind.items()])
    server = TestServer(app)
    await server.start_server()
    async with ClientSession() as client:
        found = Server(glass, str(server.make_url("")).rstrip("/"), client)
        try:
            yield found
        finally:
            await server.close()


def request_of(route: tuple[str, str], path: str = "logs/today.txt") -> tuple[str, str, Any]:
    """Method, path and body of a well-formed request for an access route."""
    method, url = route
    about = RULES[route].about
    bodies = {About.BODY_PATH: {"path": path}, About.COMMAND: {"argv": ["true"], "cwd": path, "seconds": 5}}
    queries = {About.QUERY_PATH: f"?path={path}", About.LOG: "?name=agent"}
    return method, url + queries.get(about, ""), bodies.get(about)


def all_scopes(**changed: Any) -> dict[str, Any]:
    """The document of a ticket for everything."""
    scopes = ["exec", "logs:read", "status", "workspace:read", "workspace:write"]
    return a_ticket(**{"scopes": scopes, "paths": [""], **changed})
