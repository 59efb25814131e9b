"""The gateway's part of the agent: its pieces put together, and the handlers of its routes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from guest.agent.answers import json_members
from guest.agent.config import Config
from guest.agent.gate import Gate
from guest.agent.gateway.lifecycle import Gateway
from guest.agent.gateway.lives import Lives
from guest.agent.gateway.messages import Messages
from guest.agent.gateway.model import ModelChoice
from guest.agent.gateway.proxy import Proxy
from guest.agent.gateway.start import Asks, Starter
from guest.agent.resolver import LookUp

ANSWER_SECONDS = 10.0
"""A stop may take longer; then the answer is that it is stopping."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class GatewayRoutes:
    """Handlers, bound to this guest's gateway."""

    def __init__(self, config: Config, gate: Gate, launcher: Asks, open_secret: LookUp) -> None:
        """Raises ModelFileError."""
        papers, place = config.personalisation, config.gateway
        self._choice = ModelChoice(config.data, place.rehearsal_port)
        starter = Starter(
            launcher=launcher,
            choice=self._choice,
            open_secret=open_secret,
            place=place,
            limits=papers.limits,
            origin=papers.origin,
            user=papers.tenant_id,
        )
        self.gateway = Gateway(starter, gate.members)
        self._tick = place.tick
        self._stopping: asyncio.Future[None] | None = None
        self._lives = Lives(self.gateway, gate, place.socket_lifetime)
        self.gateway.left = self._lives.look
        self._proxy = Proxy(self.gateway, gate, self._lives, port=place.port, user=starter.user)
        self.messages = Messages(self.gateway, self._proxy, gate.members)

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """As in ``gate.ACCESS``."""
        return {
            ("GET", "/v1/gateway"): self.state,
            ("POST", "/v1/gateway/start"): self.start,
            ("POST", "/v1/gateway/stop"): self.stop,
            ("GET", "/v1/gateway/model"): self.model,
            ("PUT", "/v1/gateway/model"): self.choose,
            ("GET", "/gateway"): self._proxy.page,
            ("GET", "/gateway/{tail}"): self._proxy.page,
            ("GET", "/gateway-api/v1/models"): self._proxy.models,
            ("POST", "/gateway-api/v1/chat/completions"): self._proxy.chat,
        }

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """All that has to run beside the handlers, for the time of the block."""
        watch = asyncio.get_running_loop().create_task(self._lives.watch(self._tick))
        try:
            async with self._proxy.open(), self.gateway.tended():
                yield
        finally:
            watch.cancel()

    async def state(self, _request: web.Request) -> web.Response:
        return self._told()

    async def start(self, _request: web.Request) -> web.Response:
        self.gateway.start()
        return self._told(202)

    async def stop(self, _request: web.Request) -> web.Response:
        self._stopping = asyncio.ensure_future(self.gateway.stop("A member stopped it."))
        await asyncio.wait([self._stopping], timeout=ANSWER_SECONDS)
        return self._told()

    async def model(self, _request: web.Request) -> web.Response:
        return web.json_response({"model": self._choice.document})

    async def choose(self, request: web.Request) -> web.Response:
        (document,) = await json_members(request, "model")
        if document != self._choice.document:
            self._choice.choose(document)
            self.gateway.renew_soon("Its model has changed.")
            await asyncio.sleep(0)
        return web.json_response({"model": self._choice.document})

    def _told(self, status: int = 200) -> web.Response:
        return web.json_response(self.gateway.describe(), status=status)
