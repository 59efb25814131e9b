"""When the gateway runs: only while an owner agrees to agents, and while it is used or is to be always on."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from enum import StrEnum
from typing import Any

from guest.agent.gateway.errors import GatewayRefused
from guest.agent.gateway.start import Starter, StartFailed, rehearsing
from guest.agent.launcher import LauncherError
from guest.agent.members import Members
from guest.gateway.config import GatewayConfigError, Headers, limits

STEADY_SECONDS = 900.0
"""After one that ran so long the pauses before restarts begin anew."""
LAST_SECONDS = 5.0
"""That the agent gives it when it ends itself; asked once, the launcher carries on alone."""
_ENDED = {
    "oom-kill": "It used more memory than this machine's plan gives it",
    "success": "It ended by itself",
    "exit-code": "It ended with an error",
    "core-dump": "It crashed",
    "signal": "It was killed",
}

_log = logging.getLogger(__name__)


class State(StrEnum):
    """Of the gateway."""

    OFF = "off"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


class Gateway:
    """The one gateway of this guest. All calls on one event loop."""

    def __init__(self, starter: Starter, members: Members) -> None:
        self._starter, self._members = starter, members
        self.state = State.OFF
        self.reason = ""
        """Why it is in this state, for people; empty where nothing needs saying."""
        self.headers: Headers | None = None
        """While ready: by which the gateway knows the agent."""
        self.left: Callable[[], None] = lambda: None
        """Called when it can no longer be reached."""
        self._result = ""
        self._since = time.time()
        self._ready_at = self._used_at = self._looked_at = 0.0
        self._busy = 0
        self._turn: asyncio.Task[None] | None = None
        self._held = AsyncExitStack()
        self._wanted = False
        self._restarts = 0
        self._start_at: float | None = None
        self._renewal: asyncio.Task[None] | None = None

    @property
    def permitted(self) -> bool:
        """Whether it may run and be reached at this moment."""
        return self._members.consents.agents and not self._members.suspended

    @property
    def reachable(self) -> bool:
        """Whether requests may be let through now."""
        return self.state is State.READY and self.permitted

    def describe(self) -> dict[str, Any]:
        """What members are told."""
        consents, choice = self._members.consents, self._starter.choice
        return {
            **self.statement(),
            "reason": self.reason,
            "since": int(self._since),
            "model": choice.document,
            "agents": consents.agents,
            "always_on": consents.always_on,
            "idle_seconds_left": self._idle_left(),
        }

    def statement(self) -> dict[str, str]:
        """What the portal is told: nothing that a tenant has written."""
        return {"state": str(self.state), "result": self._result}

    def used(self) -> None:
        """A member has used it."""
        self._used_at = time.monotonic()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """It is not idle for the time of the block."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self.used()

    def start(self) -> None:
        """Begin to start it, unless it starts or runs.

        Raises:
            GatewayRefused: it must not or cannot start; the message says what to change.
        """
        self.check()
        if self.state in {State.STARTING, State.READY}:
            return
        if self.state is State.STOPPING:
            raise GatewayRefused(409, "stopping", "the gateway is stopping; try again in a few seconds")
        self._restarts, self._start_at = 0, None
        self._begin()

    async def stop(self, reason: str = "") -> None:
        """Stop it, and return when it has stopped. Even one that is to be always on then stays down."""
        self._start_at = None
        if self.state in {State.STARTING, State.READY}:
            self._enter(State.STOPPING, reason)
            self._follow(lambda: self._go_down(State.OFF, reason))
        elif self.state is State.FAILED:
            self._enter(State.OFF, reason)
        await self.settled()

    async def settled(self) -> None:
        """Wait until neither a start nor a stop is under way."""
        while self._turn is not None and not self._turn.done():
            await asyncio.wait([self._turn])

    async def renew(self, reason: str) -> None:
        """What it is started with has changed: start it again if it starts or runs, and can."""
        if self.state in {State.STARTING, State.READY}:
            await self.stop(reason)
            try:
                self.start()
            except GatewayRefused as refusal:
                # What is to be always on begins again when what is missing has come.
                state = State.FAILED if self._wanted else State.OFF
                self._enter(state, f"{reason} It cannot start: {refusal}.")
        elif self._wanted and self.state is State.FAILED:
            self._restarts, self._start_at = 0, time.monotonic()

    def secret_changed(self, name: str) -> None:
        """A secret has another value now, or none."""
        if name == self._starter.choice.secret:
            self.renew_soon("Its secret has changed.")

    def renew_soon(self, reason: str) -> None:
        """As renew, without waiting for it."""
        self._renewal = asyncio.get_running_loop().create_task(self.renew(reason))

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """Tend it for the time of the block; stop it after."""
        # Whatever an agent before this one has left running knows other header names.
        self._follow(lambda: self._go_down(State.OFF, ""))
        task = asyncio.get_running_loop().create_task(self._tend())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            self._start_at = None
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self.stop()

    async def _tend(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as failure:
                _log.error("tending the gateway failed: %s", type(failure).__name__)
            await asyncio.sleep(self._starter.place.tick)

    async def look(self) -> None:
        """Do what the moment asks for: stop, notice an end, start."""
        now = time.monotonic()
        wanted = self.permitted and self._members.consents.always_on
        if wanted and not self._wanted:
            self._restarts, self._start_at = 0, now
        self._wanted = wanted
        if self.state in {State.STARTING, State.READY} and not self.permitted:
            suspended = self._members.suspended
            await self.stop("The machine is closed." if suspended else "Agents are no longer agreed to.")
        elif self.state is State.READY:
            left = self._idle_left()
            if left is not None and left <= 0:
                await self.stop("Nobody used it.")
            elif now - self._looked_at >= self._starter.place.look:
                await self._look_whether_it_runs(now)
        elif wanted and self._start_at is not None and now >= self._start_at:
            await self._start_by_itself()

    async def ended(self) -> None:
        """A request found nobody there: look at once."""
        if self.state is State.READY:
            await self._look_whether_it_runs(time.monotonic())

    async def _start_by_itself(self) -> None:
        await self.settled()
        self._start_at = None
        if self.state not in {State.OFF, State.FAILED}:
            return
        try:
            self.check()
        except GatewayRefused as refusal:
            self._enter(State.FAILED, f"It cannot start: {refusal}.")
        else:
            self._begin()

    async def _look_whether_it_runs(self, now: float) -> None:
        self._looked_at = now
        try:
            result = await self._starter.result()
        except LauncherError:
            return
        if result is not None and self.state is State.READY:
            if now - self._ready_at >= STEADY_SECONDS:
                self._restarts = 0
            self._result = result if result in _ENDED else ""
            self._fail(f"{_ENDED.get(result, 'It ended')}.")

    def check(self) -> None:
        """Raises GatewayRefused: it must not or cannot start; the message says what to change."""
        if self._members.suspended:
            raise GatewayRefused(403, "suspended", "this machine is closed")
        if not self._members.consents.agents:
            raise GatewayRefused(403, "agents_not_agreed", "an owner has to agree to agents first")
        if not self._starter.launcher.exists:
            raise GatewayRefused(409, "no_launcher", "this machine is simulated and runs no gateway")
        try:
            limits(self._starter.limits.memory_mib)
        except GatewayConfigError as error:
            raise GatewayRefused(409, "plan_too_small", str(error)) from None
        name = self._starter.choice.secret
        if name is not None:
            try:
                self._starter.open_secret(name).decode()
            except KeyError:
                text = f"the secret {name} is not here; add it, or choose another model"
                raise GatewayRefused(409, "secret_missing", text) from None
            except UnicodeDecodeError:
                text = f"the secret {name} is no text; store another value"
                raise GatewayRefused(409, "secret_unusable", text) from None

    def _begin(self) -> None:
        self._enter(State.STARTING, "")
        self._follow(self._come_up)

    async def _come_up(self) -> None:
        try:
            if self._starter.choice.rehearses:
                await self._held.enter_async_context(rehearsing(self._starter.place.rehearsal_port))
            headers = await self._starter.start()
        except StartFailed as failure:
            self._result = "no-start"
            self._fail(str(failure))
            return
        except OSError:
            self._fail("The port of the stand-in for a model is taken.")
            return
        if self.state is State.STARTING:
            self.headers = headers
            self._result = ""
            self._ready_at = self._used_at = self._looked_at = time.monotonic()
            self._enter(State.READY, "")

    def _fail(self, reason: str) -> None:
        """It is not ready, and will not be: take down what is left of it, and perhaps try again later."""
        pauses = self._starter.place.pauses
        if self._wanted and self._restarts < len(pauses):
            pause = pauses[self._restarts]
            self._start_at = time.monotonic() + pause
            self._restarts += 1
            reason += f" It starts again in {pause:.0f} seconds."
        elif self._wanted:
            reason += f" After {self._restarts} restarts nobody tries again: find the cause, then start it."
        self._enter(State.STOPPING, reason)
        self._follow(lambda: self._go_down(State.FAILED, reason))

    async def _go_down(self, then: State, reason: str) -> None:
        try:
            await self._starter.end()
        except LauncherError as failure:
            _log.warning("the gateway may still run: %s", failure)
        await self._held.aclose()
        self._held = AsyncExitStack()
        self._enter(then, reason)

    def _follow(self, deed: Callable[[], Awaitable[None]]) -> None:
        """Let ``deed`` be the transition under way; what was under way before it is broken off first."""
        before = self._turn
        current = asyncio.current_task()

        async def turn() -> None:
            if before is not None and before is not current and not before.done():
                before.cancel()
                await asyncio.wait([before])
            try:
                await deed()
            except Exception as failure:
                _log.error("the gateway's turn failed: %s", type(failure).__name__)
                self._enter(State.FAILED, "The agent failed; see its log.")

        self._turn = asyncio.get_running_loop().create_task(turn())

    def _enter(self, state: State, reason: str) -> None:
        was_ready = self.state is State.READY
        self.state, self.reason, self._since = state, reason, time.time()
        if state is not State.READY:
            self.headers = None
        if was_ready:
            self.left()

    def _idle_left(self) -> float | None:
        if self.state is not State.READY or self._members.consents.always_on:
            return None
        if self._busy:
            return self._starter.limits.gateway_idle_seconds
        used = time.monotonic() - self._used_at
        return max(0.0, self._starter.limits.gateway_idle_seconds - used)
