"""Break-glass for members: who is let in now, what was done, and an owner's end of it."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from guest.agent.answers import json_fields
from guest.agent.breakglass.access import BreakGlass
from guest.agent.breakglass.receipts import PAGE
from guest.agent.gate import SESSION
from guest.agent.jobs.asking import checked_id
from guest.agent.queries import query, whole_number
from guest.agent.recovery import Recovery
from guest.agent.sessions import Session


class MembersBreakGlass:
    """Handlers, bound to this guest."""

    def __init__(self, access: BreakGlass, recovery: Recovery) -> None:
        self._access, self._recovery = access, recovery

    def handlers(self) -> dict[tuple[str, str], Callable[[web.Request], Awaitable[web.Response]]]:
        """As in ``gate.ACCESS``."""
        return {("GET", "/v1/grants"): self.grants, ("POST", "/v1/grants/stop"): self.stop}

    async def grants(self, request: web.Request) -> web.Response:
        """The open ones, and a page of receipts: those after a number, else the newest.

        ``names``: what the approver set in force calls its people.
        """
        after = query(request, "after").get("after", "")
        chain = self._access.chain
        newest = chain.position[0]
        begin = whole_number("after", after) if after else max(0, newest - PAGE)
        told = {"grants": self._access.shown(), "receipts": chain.page(begin), "newest": newest}
        # From the machine itself: a portal could keep an owner's terms from it, and say otherwise.
        told |= {"terms": self._access.terms.statement(), "policy": self._policy()}
        return web.json_response(told | {"head": chain.note(), "names": self._names()})

    def _policy(self) -> dict[str, int] | None:
        """How many approvers what needs; None: nobody has been named, so there is no way in."""
        pinned = self._recovery.approvers
        return dict(pinned.policy) if pinned else None

    def _names(self) -> dict[str, str]:
        pinned = self._recovery.approvers
        entries = pinned.document["approvers"] if pinned else []
        return {entry["person"]: entry["name"] for entry in entries}

    async def stop(self, request: web.Request) -> web.Response:
        """An owner ends an access, for good. ``ended``: whether it was open."""
        (ticket,) = await json_fields(request, "ticket")
        session = request[SESSION]
        if not isinstance(session, Session):
            raise TypeError("the gate left no session")
        by = session.member.key.fingerprint
        ended, streams = self._access.end(checked_id(ticket), "owner", by=by)
        return web.json_response({"ended": ended, "streams": streams})
