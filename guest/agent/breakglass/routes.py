"""The control routes and the door of break-glass, and the operator's own end of it."""

import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from guest.agent.answers import BadRequest, json_fields, json_members, json_objects
from guest.agent.breakglass.access import BreakGlass
from guest.agent.breakglass.guard import COOKIE, door_of
from guest.agent.breakglass.visits import visit_of
from guest.agent.queries import query

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"[0-9]{1,15}")


class BreakGlassRoutes:
    """Handlers, bound to this guest."""

    def __init__(self, access: BreakGlass) -> None:
        self._access = access

    def handlers(self) -> dict[tuple[str, str], Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """As in ``gate.ACCESS``."""
        return {
            ("PUT", "/v1/grants"): self.take,
            ("POST", "/v1/grants/end"): self.end,
            ("PUT", "/v1/terms"): self.take_terms,
            ("GET", "/v1/receipts"): self.receipts,
            ("POST", "/v1/break-glass/challenge"): self.challenge,
            ("POST", "/v1/break-glass/sessions"): self.begin_session,
            ("POST", "/v1/break-glass/end"): self.done,
        }

    async def take(self, request: web.Request) -> web.Response:
        (document,) = await json_members(request, "grant")
        opened = self._access.take(document)
        return web.json_response({"ticket": opened.ticket.ticket, "until": opened.until})

    async def end(self, request: web.Request) -> web.Response:
        """Over when it answers 200, whether or not it was open: ``ended`` tells which."""
        (ticket,) = await json_fields(request, "ticket")
        if not _UUID.fullmatch(ticket):
            raise BadRequest("ticket must be a UUID in lower case")
        ended, streams = self._access.end(ticket, "portal")
        return web.json_response({"ended": ended, "streams": streams})

    async def take_terms(self, request: web.Request) -> web.Response:
        document, signature = await json_objects(request, "document", "signature")
        found = self._access.terms.take(document, signature)
        self._access.changed()
        return web.json_response({"version": found.version, "hash": found.hash})

    async def receipts(self, request: web.Request) -> web.Response:
        """Those after one number, and the signed head: of all there are, not of this page."""
        after = query(request, "after").get("after", "0")
        if not _NUMBER.fullmatch(after):
            raise BadRequest("after must be the number of a receipt, or 0")
        chain = self._access.chain
        return web.json_response({"receipts": chain.page(int(after)), "head": chain.note()})

    async def challenge(self, request: web.Request) -> web.Response:
        opened, _ = door_of(request)
        return web.json_response(self._access.challenge(opened))

    async def begin_session(self, request: web.Request) -> web.Response:
        opened, token = door_of(request)
        (signature,) = await json_objects(request, "signature")
        nonce = signature.pop("nonce", None)
        if not isinstance(nonce, str):
            raise BadRequest("signature.nonce must be the challenge's nonce")
        session = self._access.begin_session(opened.ticket, nonce, signature, token.jti)
        response = web.json_response({"seconds": self._access.seconds_left(opened)})
        # Not in the answer: no script, not even ours, gets to read it.
        response.set_cookie(COOKIE, session.name, path="/", secure=True, httponly=True, samesite="Strict")
        return response

    async def done(self, request: web.Request) -> web.Response:
        """The operator ends the access, for good."""
        visit_of(request).end()
        response = web.Response(status=204)
        response.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
        return response
