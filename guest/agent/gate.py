"""Who may call which route. Declared once, in ``ACCESS``; checked here, before any handler runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from guest.agent.answers import BODY_LIMIT, body_of, error
from guest.agent.breakglass.guard import Guard
from guest.agent.callers import Caller
from guest.agent.ledger import Ledger
from guest.agent.members import Members
from guest.agent.presented import bearer, cookies_named, is_own_page
from guest.agent.recovery import Recovery
from guest.agent.sessions import Request, Session, SessionRefused, Sessions
from guest.agent.streams import STREAMED, Flow, Places, TooManyStreams, assumed_hash
from guest.agent.trust import TrustStore
from protocol.sessions import PROOF_HEADER as PROOF_HEADER
from protocol.sessions import SESSION_HEADER as SESSION_HEADER
from protocol.tokens import (
    BreakGlassToken,
    Expected,
    RuntimeToken,
    TokenError,
    body_hash,
    verify_break_glass_token,
    verify_runtime_token,
)

COOKIE = "__Host-guest"
RATE_PER_SECOND = 20.0
RATE_BURST = 60.0
MAX_ACTORS = 256
BUSY = ("too_many_streams", "wait until another upload or download has ended")


class Access(StrEnum):
    """The classes of routes (DESIGN §3). All need the control plane's certificate, which TLS has checked."""

    OPEN = "open"
    """Nothing more."""
    CONTROL = "control"
    """The portal's token for exactly this request. Never returns or runs tenant content."""
    SIGN_IN = "sign-in"
    """The token, whose body may be unknown to the portal. Returns a nonce, or a session for a signature."""
    CONTENT = "content"
    """The token, and a member's session that the guest itself began."""
    OWNER = "owner"
    """As content, and the member is an owner."""
    BREAK_GLASS_DOOR = "break-glass door"
    """A break-glass token under an open grant. Returns the page, a nonce, or a session for a signature."""
    BREAK_GLASS = "break-glass"
    """As its door, and the requester's session, and the route's scope and paths (breakglass.scopes)."""


ACCESS: dict[tuple[str, str], Access] = {
    ("GET", "/v1/health"): Access.OPEN,
    ("GET", "/v1/status"): Access.CONTROL,
    ("POST", "/v1/enrol"): Access.CONTROL,
    ("PUT", "/v1/enrol/certificate"): Access.CONTROL,
    ("POST", "/v1/certificate/request"): Access.CONTROL,
    ("PUT", "/v1/certificate"): Access.CONTROL,
    ("PUT", "/v1/trust"): Access.CONTROL,
    ("PUT", "/v1/keyring"): Access.CONTROL,
    ("PUT", "/v1/consents"): Access.CONTROL,
    ("PUT", "/v1/approvers"): Access.CONTROL,
    ("PUT", "/v1/recovery"): Access.CONTROL,
    ("POST", "/v1/recovery/finish"): Access.CONTROL,
    ("PUT", "/v1/suspended"): Access.CONTROL,
    ("DELETE", "/v1/sessions"): Access.CONTROL,
    ("GET", "/v1/secrets"): Access.CONTROL,
    ("PUT", "/v1/secrets"): Access.CONTROL,
    ("POST", "/v1/secrets/revoke"): Access.CONTROL,
    ("POST", "/v1/secrets/export"): Access.CONTROL,
    ("POST", "/v1/sealing-key/rotate"): Access.CONTROL,
    ("POST", "/v1/sealing-key/retire"): Access.CONTROL,
    ("POST", "/v1/checkpoint"): Access.CONTROL,
    ("PUT", "/v1/terms"): Access.CONTROL,
    ("PUT", "/v1/grants"): Access.CONTROL,
    ("POST", "/v1/grants/end"): Access.CONTROL,
    ("GET", "/v1/receipts"): Access.CONTROL,
    ("GET", "/"): Access.SIGN_IN,
    ("GET", "/page.js"): Access.SIGN_IN,
    ("GET", "/jobs.js"): Access.SIGN_IN,
    ("GET", "/gateway.js"): Access.SIGN_IN,
    ("GET", "/witness.js"): Access.SIGN_IN,
    ("GET", "/page.css"): Access.SIGN_IN,
    ("GET", "/v1/door"): Access.SIGN_IN,
    ("POST", "/v1/sessions/challenge"): Access.SIGN_IN,
    ("POST", "/v1/sessions"): Access.SIGN_IN,
    ("GET", "/v1/session"): Access.CONTENT,
    ("DELETE", "/v1/session"): Access.CONTENT,
    ("GET", "/v1/sessions"): Access.CONTENT,
    ("POST", "/v1/sessions/end"): Access.OWNER,
    ("GET", "/v1/members"): Access.CONTENT,
    ("GET", "/v1/outside"): Access.CONTENT,
    ("GET", "/v1/vault"): Access.CONTENT,
    ("GET", "/v1/witness"): Access.CONTENT,
    ("POST", "/v1/witness/seen"): Access.OWNER,
    ("POST", "/v1/recovery/object"): Access.OWNER,
    ("GET", "/v1/workspace"): Access.CONTENT,
    ("GET", "/v1/workspace/list"): Access.CONTENT,
    ("GET", "/v1/workspace/files"): Access.CONTENT,
    ("PUT", "/v1/workspace/files"): Access.CONTENT,
    ("DELETE", "/v1/workspace/files"): Access.CONTENT,
    ("POST", "/v1/workspace/folders"): Access.CONTENT,
    ("GET", "/v1/workspace/archive"): Access.CONTENT,
    ("GET", "/v1/gateway"): Access.CONTENT,
    ("POST", "/v1/gateway/start"): Access.CONTENT,
    ("POST", "/v1/gateway/stop"): Access.CONTENT,
    ("GET", "/v1/gateway/model"): Access.OWNER,
    ("PUT", "/v1/gateway/model"): Access.OWNER,
    ("GET", "/gateway"): Access.CONTENT,
    ("GET", "/gateway/{tail}"): Access.CONTENT,
    ("GET", "/gateway-api/v1/models"): Access.CONTENT,
    ("POST", "/gateway-api/v1/chat/completions"): Access.CONTENT,
    ("POST", "/v1/jobs"): Access.CONTENT,
    ("GET", "/v1/jobs"): Access.CONTENT,
    ("GET", "/v1/jobs/item"): Access.CONTENT,
    ("DELETE", "/v1/jobs/item"): Access.CONTENT,
    ("GET", "/v1/jobs/log"): Access.CONTENT,
    ("POST", "/v1/jobs/cancel"): Access.CONTENT,
    ("GET", "/v1/grants"): Access.CONTENT,
    ("POST", "/v1/grants/stop"): Access.OWNER,
    ("GET", "/break-glass"): Access.BREAK_GLASS_DOOR,
    ("GET", "/break-glass.js"): Access.BREAK_GLASS_DOOR,
    ("GET", "/break-glass.css"): Access.BREAK_GLASS_DOOR,
    ("POST", "/v1/break-glass/challenge"): Access.BREAK_GLASS_DOOR,
    ("POST", "/v1/break-glass/sessions"): Access.BREAK_GLASS_DOOR,
    ("POST", "/v1/break-glass/end"): Access.BREAK_GLASS,
    ("GET", "/v1/break-glass"): Access.BREAK_GLASS,
    ("GET", "/v1/break-glass/status"): Access.BREAK_GLASS,
    ("GET", "/v1/break-glass/logs"): Access.BREAK_GLASS,
    ("GET", "/v1/break-glass/logs/read"): Access.BREAK_GLASS,
    ("GET", "/v1/break-glass/list"): Access.BREAK_GLASS,
    ("GET", "/v1/break-glass/files"): Access.BREAK_GLASS,
    ("PUT", "/v1/break-glass/files"): Access.BREAK_GLASS,
    ("DELETE", "/v1/break-glass/files"): Access.BREAK_GLASS,
    ("POST", "/v1/break-glass/folders"): Access.BREAK_GLASS,
    ("POST", "/v1/break-glass/exec"): Access.BREAK_GLASS,
}
"""Every route that the agent has. One that is missing here cannot be added to the server."""
LARGER = {("POST", "/gateway-api/v1/chat/completions"): 1 << 20}
"""Bytes that a body may have, where that is more than elsewhere: a whole conversation comes each time."""

UNDER_TICKETS = frozenset({Access.BREAK_GLASS_DOOR, Access.BREAK_GLASS})
"""What a break-glass token reaches, and no other token does."""
ROUTED = frozenset({Access.SIGN_IN, Access.CONTENT, Access.OWNER}) | UNDER_TICKETS
"""What people's own requests reach: the portal need not know their body, and the proxy carries them."""
MEMBERS_ONLY = frozenset({Access.CONTENT, Access.OWNER})
MAY_CALL: dict[Caller, frozenset[Access]] = {
    Caller.CONTROL_PLANE: frozenset(Access),
    Caller.PROXY: ROUTED | {Access.OPEN},
}
SESSION = "session"
"""Where the gate leaves the request's session for the handler."""


@dataclass
class RateLimit:
    """A token bucket per actor. The least recent actor is forgotten when there are too many."""

    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def allows(self, actor: str, now: float) -> bool:
        """Whether one more request of ``actor`` fits at ``now`` (monotonic seconds)."""
        level, seen = self._buckets.pop(actor, (RATE_BURST, now))
        level = min(RATE_BURST, level + (now - seen) * RATE_PER_SECOND)
        self._buckets[actor] = (max(level - 1.0, 0.0), now)
        if len(self._buckets) > MAX_ACTORS:
            del self._buckets[next(iter(self._buckets))]
        return level >= 1.0


@dataclass
class Gate:
    """The checks of one guest."""

    runtime_id: str
    tenant_id: str
    origin: str
    """This guest's own, in the browser."""
    trust: TrustStore
    caller: Callable[[web.Request], Caller | None]
    ledger: Ledger
    members: Members
    sessions: Sessions
    recovery: Recovery
    guard: Guard
    rate: RateLimit = field(default_factory=RateLimit)
    streams: Places = field(default_factory=Places)
    operators_streams: Places = field(default_factory=Places)
    """Places of their own: slow operators keep no member out."""

    def middleware(self) -> Middleware:
        """Stands before every handler that a route has."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            resource = request.match_info.route.resource
            if resource is None:  # no such route: nothing to protect
                return await handler(request)
            route = request.method, resource.canonical
            access, flow = ACCESS[route], STREAMED.get(route)
            caller = self.caller(request)
            if caller is None or access not in MAY_CALL[caller]:
                return error(403, "not_for_this_caller", "this certificate opens other routes")
            if access is Access.OPEN:
                return await handler(request)
            sha256 = (
                assumed_hash(request)
                if flow is Flow.IN
                else body_hash(await body_of(request, LARGER.get(route, BODY_LIMIT)))
            )
            try:
                token = self._token(request, sha256, access)
            except TokenError as refusal:
                return error(401, refusal.code, "a valid token for exactly this request is needed")
            if not self.rate.allows(token.sub, time.monotonic()):
                return self._refusal(request, token, 429, "too_many_requests", "slow down")
            if access in ROUTED and self.members.suspended:
                return self._refusal(request, token, 403, "suspended", "this runtime is suspended")
            if access in UNDER_TICKETS:
                return await self._under_ticket(request, handler, token, access, flow)
            if access in MEMBERS_ONLY:
                try:
                    session = self.session(request, sha256)
                except SessionRefused as refusal:
                    return error(403, refusal.code, "sign in with a member's key first")
                if access is Access.OWNER and session.member.role != "owner":
                    return error(403, "not_an_owner", "only an owner may do this")
                request[SESSION] = session
                if flow is not None:
                    return await self._streamed(request, session, handler)
            return await handler(request)

        return gate

    async def _under_ticket(
        self,
        request: web.Request,
        handler: Handler,
        token: RuntimeToken,
        access: Access,
        flow: Flow | None,
    ) -> web.StreamResponse:
        if not isinstance(token, BreakGlassToken):
            raise TypeError("a token of another kind came this far")
        if access is Access.BREAK_GLASS_DOOR:
            return await self.guard.at_door(request, handler, token)
        if flow is None:
            return await self.guard.visit(request, handler, token)
        try:
            with self.operators_streams.place(token.ticket):
                return await self.guard.visit(request, handler, token)
        except TooManyStreams:
            return self._refusal(request, token, 429, *BUSY)

    def _refusal(
        self, request: web.Request, token: RuntimeToken, status: int, code: str, words: str
    ) -> web.Response:
        """With its receipt, if it came under a ticket: the portal knows that it came, and would miss one."""
        if isinstance(token, BreakGlassToken):
            self.guard.note_refused(request, token, code)
        return error(status, code, words)

    async def _streamed(self, request: web.Request, session: Session, handler: Handler) -> web.StreamResponse:
        try:
            with self.streams.place(session.member.key.fingerprint):
                return await handler(request)
        except TooManyStreams:
            return error(429, *BUSY)

    def _token(self, request: web.Request, sha256: str, access: Access) -> RuntimeToken:
        text, now, routed = bearer(request), int(time.time()), access in ROUTED
        expected = Expected(
            self.runtime_id, self.tenant_id, request.method, request.raw_path, sha256, now, routed
        )
        believed = self.trust.now
        keys = (*believed.token_keys, *believed.route_keys) if routed else believed.token_keys
        verify = verify_break_glass_token if access in UNDER_TICKETS else verify_runtime_token
        token = verify(text, keys, expected)
        self.ledger.spend(token, now)
        return token

    def check_standing(self, request: web.Request) -> None:
        """What lasts longer than a moment asks again: an end of the session, or of all access, ends it too.

        Raises:
            SessionRefused: ``suspended`` or ``session_required``.
        """
        session, now = request[SESSION], time.monotonic()
        if not isinstance(session, Session) or self.members.suspended:
            raise SessionRefused("suspended")
        if not self.sessions.lives(session, now):
            raise SessionRefused("session_required")
        session.used = now

    def session(self, request: web.Request, sha256: str) -> Session:
        """The session of this request: a device key's, named and proven by headers, or a browser's cookie.

        Raises:
            SessionRefused: none, more than one, or not this request's.
        """
        named, cookies = request.headers.getall(SESSION_HEADER, []), cookies_named(request, COOKIE)
        if len(named) + len(cookies) != 1:
            raise SessionRefused("session_required")
        if cookies:
            if not is_own_page(request, self.origin):
                raise SessionRefused("cross_origin")
            return self.sessions.check_cookie(cookies[0], time.monotonic())
        return self.sessions.check(
            named[0],
            request.headers.get(PROOF_HEADER, ""),
            Request(request.method, request.raw_path, sha256),
            time.monotonic(),
        )
