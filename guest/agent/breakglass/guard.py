"""The gate's part for break-glass: from a token to a visit, and the receipts around the handler."""

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from guest.agent.answers import BadRequest, answer_to, json_fields, json_members
from guest.agent.beneath import WorkspaceRefused, checked
from guest.agent.breakglass.access import BreakGlass
from guest.agent.breakglass.cuts import cutting
from guest.agent.breakglass.grants import Opened
from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.breakglass.scopes import RULES, About, Rule
from guest.agent.breakglass.visits import VISIT, Visit
from guest.agent.presented import cookies_named, is_own_page
from guest.agent.queries import query
from guest.agent.streams import BROKEN_OFF, RANGE
from protocol.access_receipts import ReceiptError
from protocol.canonical import MAX_INTEGER
from protocol.receipt_texts import written
from protocol.tokens import BreakGlassToken

COOKIE = "__Host-bg"
DOOR = web.RequestKey("door", tuple[Opened, BreakGlassToken])
"""Where the guard leaves the open grant and the token for the handlers of the door."""
CUT = 499
"""The status that an outcome states when the answer was cut, came to no end, or the reader has gone."""
MAX_NAME = 255
MAX_NUMBER = 20
"""Digits of a number that a receipt repeats as it was asked."""
QUERY = ("path", "after", "name", "offset", "recursive")
"""Every member that a query of an access route may have."""

_log = logging.getLogger(__name__)


class Guard:
    """Bound to this guest."""

    def __init__(self, access: BreakGlass, origin: str) -> None:
        """``origin``: this guest's own, in the browser."""
        self.access, self._origin = access, origin

    async def at_door(
        self, request: web.Request, handler: Handler, token: BreakGlassToken
    ) -> web.StreamResponse:
        """Page, challenge and session: for who has a grant, but no session yet. Raises BreakGlassRefused."""
        with self._noting(token, request):
            request[DOOR] = self._granted(token), token
            return await handler(request)

    async def visit(
        self, request: web.Request, handler: Handler, token: BreakGlassToken
    ) -> web.StreamResponse:
        """Everything else: with the operator's session, inside the ticket, after the receipt.

        Raises:
            BreakGlassRefused: ``no_rule``, ``token_differs``, ``session_required``, ``cross_origin``,
                ``wrong_scope``, ``wrong_path``, or a code of ``Grants.standing``.
            BadRequest, WorkspaceRefused: what it is about cannot be read.
        """
        route = request.method, request.match_info.route.resource.canonical  # type: ignore[union-attr]
        rule = RULES.get(route)
        if rule is None:
            raise BreakGlassRefused(403, "no_rule", "no scope opens this route")
        with self._noting(token, request):
            about = await _about(request, rule.about)
        # From here to the handler nothing waits, so nothing can end in between unseen.
        with self._noting(token, request, **written(about)):
            visit = self._visit(request, token, rule, about)
        if rule.scope is not None:
            with self._noting(token, request):
                self._note_access(visit, route, about)
        request[VISIT] = visit
        with self.access.cuts.held(visit.ticket.ticket, cutting(request.transport)):
            if rule.scope is None:
                return await handler(request)
            return await self._with_outcome(request, handler, visit)

    def note_refused(self, request: web.Request, token: BreakGlassToken, code: str) -> None:
        """A receipt of a refusal by the gate itself, if it is about a ticket that this guest knows."""
        self.access.note_refused(token, code, method=request.method, route=_route(request))

    def _visit(
        self, request: web.Request, token: BreakGlassToken, rule: Rule, about: dict[str, Any]
    ) -> Visit:
        opened = self._granted(token)
        cookies = cookies_named(request, COOKIE)
        if len(cookies) != 1:
            raise BreakGlassRefused(403, "session_required", "begin a session with the requester's passkey")
        if not is_own_page(request, self._origin):
            raise BreakGlassRefused(403, "cross_origin", "only this machine's own page may ask")
        session = self.access.session(token.ticket, cookies[0])
        if rule.scope is not None and rule.scope not in opened.ticket.scopes:
            raise BreakGlassRefused(403, "wrong_scope", f"the ticket has no {rule.scope}")
        path = str(about.get("path", about.get("cwd", "")))
        if rule.about in {About.QUERY_PATH, About.BODY_PATH, About.COMMAND} and not opened.ticket.covers(
            path
        ):
            raise BreakGlassRefused(403, "wrong_path", "the ticket does not cover this path")
        return Visit(opened, token.jti, rule, session, path, self.access)

    def _granted(self, token: BreakGlassToken) -> Opened:
        opened = self.access.standing(token.ticket)
        ticket = opened.ticket
        said = (token.digest, tuple(token.scopes), tuple(token.paths))
        if said != (ticket.digest, ticket.scopes, ticket.paths):
            raise BreakGlassRefused(403, "token_differs", "the token is not this ticket's")
        return opened

    def _note_access(self, visit: Visit, route: tuple[str, str], about: dict[str, Any]) -> None:
        try:
            self.access.note(
                visit,
                "access",
                scope=str(visit.rule.scope),
                method=route[0],
                route=route[1],
                **written(about),
            )
        except ReceiptError as error:
            raise BadRequest(f"no receipt can hold this request, so it is not served: {error}") from None

    async def _with_outcome(self, request: web.Request, handler: Handler, visit: Visit) -> web.StreamResponse:
        status = 500
        try:
            response = await handler(request)
            status = CUT if request.get(BROKEN_OFF) else response.status
            return response
        except asyncio.CancelledError:
            status = CUT
            raise
        except Exception as failure:
            status = CUT if _is_gone(request) else answer_to(failure).status
            raise
        finally:
            self._note_outcome(visit, status)

    def _note_outcome(self, visit: Visit, status: int) -> None:
        """What was served cannot be taken back: an outcome that cannot be kept is seen to be missing."""
        try:
            self.access.note(visit, "outcome", status=status, **visit.outcome)
        except (ReceiptError, sqlite3.Error, OSError) as failure:
            _log.error("an outcome of break-glass is not on the disk: %s", type(failure).__name__)

    @contextmanager
    def _noting(self, token: BreakGlassToken, request: web.Request, **about: Any) -> Iterator[None]:
        """Refusals in the block get a receipt, if it is about a ticket that this guest knows.

        Also of what cannot be read: the portal knows of the request, and would miss its receipt.
        """
        try:
            yield
        except (BreakGlassRefused, WorkspaceRefused, BadRequest) as refusal:
            code = str(getattr(refusal, "code", "bad_request"))
            self.access.note_refused(token, code, method=request.method, route=_route(request), **about)
            raise


def door_of(request: web.Request) -> tuple[Opened, BreakGlassToken]:
    """What the guard left for the handlers of the door."""
    return request[DOOR]


def _is_gone(request: web.Request) -> bool:
    """Whether nobody is there any more to take an answer."""
    return request.transport is None or request.transport.is_closing()


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical


async def _about(request: web.Request, about: About) -> dict[str, Any]:
    """What the receipt says that the request is about, before it is escaped.

    Raises BadRequest, WorkspaceRefused.
    """
    if about is About.QUERY_PATH:
        asked = _asked(request)
        more = {name: asked[name][:MAX_NUMBER] for name in ("recursive",) if name in asked}
        if span := RANGE.fullmatch(request.headers.get("Range", "")):
            more["range"] = span[0].removeprefix("bytes=")
        return {"path": checked(asked.get("path", "")), **more}
    if about is About.BODY_PATH:
        (path,) = await json_fields(request, "path")
        return {"path": checked(path)}
    if about is About.LOG:
        return _log_asked(_asked(request))
    if about is About.COMMAND:
        return _command(*await json_members(request, "argv", "cwd", "seconds"))
    return {}


def _log_asked(asked: dict[str, str]) -> dict[str, Any]:
    name = asked.get("name", "")
    if not 0 < len(name) <= MAX_NAME:
        raise BadRequest(f"name must be that of a log: 1 to {MAX_NAME} characters")
    return {"name": name} | ({"offset": asked["offset"][:MAX_NUMBER]} if "offset" in asked else {})


def _command(argv: Any, cwd: Any, seconds: Any) -> dict[str, Any]:
    if not isinstance(argv, list) or not argv or not all(isinstance(each, str) for each in argv):
        raise BadRequest("argv must be a list of text, the program first")
    if not isinstance(cwd, str):
        raise BadRequest("cwd must be text: a folder below the workspace, or nothing for the workspace")
    told = {"seconds": seconds} if type(seconds) is int and abs(seconds) <= MAX_INTEGER else {}
    return {"argv": argv, "cwd": checked(cwd), **told}


def _asked(request: web.Request) -> dict[str, str]:
    """The query's members. Which others it may have is the handler's to say."""
    return query(request, *QUERY)
