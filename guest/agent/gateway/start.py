"""One start of the gateway: names, configuration, secrets while it starts, and the wait for ready."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from guest.agent.gateway.model import ModelChoice
from guest.agent.gateway.place import Place
from guest.agent.gateway.ready import LOOPBACK, is_ready, listener
from guest.agent.launcher import LauncherError
from guest.agent.resolver import LookUp, StartWindow
from guest.gateway.config import GatewayConfigError, Headers, Settings, limits, render
from guest.gateway.rehearsal import application
from protocol.enrolment import Limits

ASK_AGAIN_SECONDS = 0.5
END_SECONDS = 60.0
"""More than systemd gives it before it ends by force."""
RUNNING = "running"

_log = logging.getLogger(__name__)


class Asks(Protocol):
    """The launcher, as far as the gateway needs it."""

    @property
    def exists(self) -> bool:
        """Whether this machine has one; a simulated guest has not."""
        ...

    async def ask(self, document: dict[str, Any]) -> dict[str, Any]:
        """Raises LauncherError."""
        ...


class StartFailed(Exception):
    """The gateway did not become ready; the message is for people."""


@dataclass(frozen=True)
class Starter:
    """All that a start needs."""

    launcher: Asks
    choice: ModelChoice
    open_secret: LookUp
    place: Place
    limits: Limits
    origin: str
    user: str
    """By whom the gateway knows every member: one name, which nobody else's request carries."""

    async def start(self) -> Headers:
        """Start the gateway and wait until it is ready; the names of the headers that it knows the agent by.

        Its window is closed when this returns, however it returns.

        Raises:
            StartFailed: it is not ready. It may run all the same.
        """
        headers = Headers.fresh()
        try:
            async with asyncio.timeout(self.place.timeout), self._window(), _client() as client:
                await self.end()
                await self.launcher.ask(self._request(headers))
                await self._wait(client)
        except TimeoutError:
            raise StartFailed(f"It was not ready after {self.place.timeout:.0f} seconds.") from None
        except LauncherError as failure:
            raise StartFailed(f"It could not be started: {failure}.") from None
        except GatewayConfigError as failure:
            raise StartFailed(f"It cannot be configured: {failure}.") from None
        except (OSError, KeyError) as failure:
            _log.error("the gateway's start failed: %s", type(failure).__name__)
            raise StartFailed("The agent could not prepare the start; see its log.") from None
        return headers

    async def end(self) -> None:
        """End the gateway, if one runs.

        Raises:
            LauncherError: nobody knows whether it has ended.
        """
        if not self.launcher.exists:
            return
        await self.launcher.ask({"verb": "gateway_stop"})
        try:
            async with asyncio.timeout(END_SECONDS):
                while await self.result() is None:
                    await asyncio.sleep(ASK_AGAIN_SECONDS)
        except TimeoutError:
            raise LauncherError("it does not end") from None

    async def result(self) -> str | None:
        """How the gateway ended, in systemd's words; None while it runs.

        Raises:
            LauncherError: nobody knows.
        """
        told = await self.launcher.ask({"verb": "gateway_status"})
        return None if told.get("state") == RUNNING else str(told.get("result") or "")

    def _request(self, headers: Headers) -> dict[str, Any]:
        bounds = limits(self.limits.memory_mib)
        settings = Settings(
            origin=self.origin,
            user=self.user,
            headers=headers,
            model=self.choice.model,
            port=self.place.port,
        )
        return {
            "verb": "gateway_start",
            "config": json.dumps(render(settings)),
            "memory_mib": bounds.memory_mib,
            "heap_mib": bounds.heap_mib,
            "tasks": self.limits.processes,
        }

    @asynccontextmanager
    async def _window(self) -> AsyncIterator[None]:
        name = self.choice.secret
        window = StartWindow(self.place.socket, self.place.user_id, only(name, self.open_secret))
        try:
            if name is not None:
                await window.open(self.place.timeout)
            yield
        finally:
            window.close()

    async def _wait(self, client: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        while not await is_ready(client, self.place.port):
            if loop.time() - asked >= self.place.look:
                asked = loop.time()
                result = await self.result()
                if result is not None:
                    raise StartFailed(f"It ended before it was ready ({result or 'no result'}).")
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        if listener(self.place.port) != self.place.user_id:
            raise StartFailed("Somebody else listens on the gateway's port.")


def only(name: str | None, look_up: LookUp) -> LookUp:
    """``look_up`` for one name; any other is not there."""

    def found(asked: str) -> bytes:
        if asked != name:
            raise KeyError(asked)
        return look_up(asked)

    return found


@asynccontextmanager
async def rehearsing(port: int) -> AsyncIterator[None]:
    """Serve the stand-in for a model on loopback for the time of the block. Raises OSError."""
    runner = web.AppRunner(application(), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        yield
    finally:
        await runner.cleanup()


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
