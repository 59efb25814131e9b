"""What an operator is told of the ticket and of the machine."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from guest.agent.breakglass.visits import Visit, visit_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Standing:
    """Handlers. ``status``: the machine's own, of ``GET /v1/status``."""

    def __init__(self, status: Handler) -> None:
        self._status = status

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """As in ``gate.ACCESS``."""
        return {
            ("GET", "/v1/break-glass"): self.ticket,
            ("GET", "/v1/break-glass/status"): self._status,
        }

    async def ticket(self, request: web.Request) -> web.Response:
        return web.json_response(described(visit_of(request)))


def described(visit: Visit) -> dict[str, Any]:
    """The ticket as its operator sees it; ``seconds_left`` in whole seconds."""
    ticket = visit.ticket
    return {
        "ticket": ticket.ticket,
        "kind": ticket.kind,
        "operator": ticket.requester.name,
        "reason": ticket.reason,
        "incident": ticket.incident,
        "scopes": list(ticket.scopes),
        "paths": list(ticket.paths),
        "seconds_left": visit.seconds_left(),
    }
