"""The handlers of the witness: the portal offers checkpoints, and members see what was accepted."""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from guest.agent.answers import json_fields
from guest.agent.ledger import Ledger
from guest.agent.witness import Witness


class WitnessRoutes:
    """Handlers, bound to this guest's witness."""

    def __init__(self, witness: Witness, ledger: Ledger) -> None:
        self._witness, self._ledger = witness, ledger

    def handlers(self) -> dict[tuple[str, str], Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """As in ``gate.ACCESS``."""
        return {
            ("POST", "/v1/checkpoint"): self.consider,
            ("GET", "/v1/witness"): self.show,
            ("POST", "/v1/witness/seen"): self.saw,
        }

    async def consider(self, request: web.Request) -> web.Response:
        (text,) = await json_fields(request, "request")
        # A clock that runs behind would date the signature before the token that brought the request.
        now = max(int(time.time()), self._ledger.high)
        return web.json_response(self._witness.consider(text, now))

    async def show(self, _request: web.Request) -> web.Response:
        return web.json_response(self._witness.shown())

    async def saw(self, _request: web.Request) -> web.Response:
        self._witness.saw()
        return web.json_response(self._witness.shown())
