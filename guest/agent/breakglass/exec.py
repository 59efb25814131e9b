"""An operator's commands: one at a time, carried out as members' jobs are, and ended with the access.

Each has a mark on the data volume from before it begins until nothing of it is left, so an agent that dies
meanwhile ends it at its next start.
"""

import asyncio
import base64
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from aiohttp import web

from guest.agent.answers import BadRequest, json_members
from guest.agent.beneath import checked
from guest.agent.breakglass.visits import visit_of
from guest.agent.files import make_private_folder, write_atomically
from guest.agent.jobs.backends import Away, NotStarted
from guest.agent.jobs.launched import Launched
from guest.agent.jobs.logs import read_start
from guest.agent.jobs.records import Asked, Job, JobRefused, Kind, Outcome, State, Who
from guest.launcher.wire import Refused, checked_argv

MAX_SECONDS = 60
OUTPUT_BYTES = 1 << 20
LOOK_SECONDS = 0.2
RETRY_SECONDS = 1.0
FOLDER = "break-glass-commands"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Command:
    """What an operator wants run: no shell reads it."""

    argv: tuple[str, ...]
    cwd: str
    """A folder of the workspace; empty: the workspace itself."""
    seconds: int

    @classmethod
    def parse(cls, argv: Any, cwd: Any, seconds: Any) -> "Command":
        """Raises BadRequest, WorkspaceRefused."""
        try:
            words = checked_argv(argv)
        except Refused as refusal:
            raise BadRequest(str(refusal)) from None
        if not isinstance(cwd, str):
            raise BadRequest("cwd must be a folder's path in the workspace; empty for the workspace itself")
        if type(seconds) is not int or not 1 <= seconds <= MAX_SECONDS:
            raise BadRequest(f"seconds must be a whole number from 1 to {MAX_SECONDS}")
        return cls(words, checked(cwd), seconds)

    @property
    def line(self) -> tuple[str, ...]:
        """What the launcher starts, in the workspace. After ``--`` nothing is an option of env's."""
        return ("env", f"--chdir={self.cwd}", "--", *self.argv) if self.cwd else self.argv


@dataclass(frozen=True)
class Ran:
    """How a command ended, and the beginning of what it said."""

    outcome: Outcome
    output: bytes
    truncated: bool

    @property
    def sha256(self) -> str:
        """Of the output as it is given."""
        return sha256(self.output).hexdigest()


class Commands:
    """Runs them by way of the launcher. ``folder``: where the marks are."""

    def __init__(self, launched: Launched, folder: Path) -> None:
        make_private_folder(folder)
        self._launched, self._folder, self.launcher = launched, folder, launched.launcher
        self._busy = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """End what an earlier process has left, and until the block's end see to the end of what is begun.

        What is not at its end by then has its mark, for the next start.
        """
        for mark in self._folder.iterdir():
            if mark.name.startswith("."):
                mark.unlink()  # Half a mark: nothing was begun after it.
            else:
                self._see_to_its_end(_job(mark.name, Command((), "", 1)), kill=True)
        try:
            yield
        finally:
            for task in self._ending:
                task.cancel()
            await asyncio.gather(*self._ending, return_exceptions=True)

    async def run(self, command: Command, standing: Callable[[], None]) -> Ran:
        """Run it and wait for its end. ``standing`` is asked all the time; what it raises ends the command.

        Raises:
            JobRefused: ``no_launcher``, ``busy``, ``not_started`` or ``broken``.
        """
        self._launched.check()
        if self._busy.locked():
            raise JobRefused(409, "busy", "another command of an operator runs; wait for its end")
        async with self._busy:
            standing()
            job, over = _job(str(uuid.uuid4()), command), False
            write_atomically(self._folder / job.id, b"")
            try:
                await self._launched.start(job)
                outcome = await self._end_of(job, standing)
                over = True
                output, size = await asyncio.to_thread(read_start, self._launched.log(job), OUTPUT_BYTES)
                return Ran(outcome, output, size > len(output))
            except NotStarted as refusal:
                raise JobRefused(503, "not_started", f"the command was not started: {refusal}") from None
            except Away as failure:
                raise JobRefused(
                    503, "broken", f"nobody knows how it went, so it is ended: {failure}"
                ) from None
            finally:
                self._see_to_its_end(job, kill=not over)

    async def _end_of(self, job: Job, standing: Callable[[], None]) -> Outcome:
        while (outcome := await self._launched.look(job)) is None:
            standing()
            await asyncio.sleep(LOOK_SECONDS)
        standing()
        return outcome

    def _see_to_its_end(self, job: Job, *, kill: bool) -> None:
        task = asyncio.create_task(self._remove(job, kill=kill))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _remove(self, job: Job, *, kill: bool) -> None:
        told = False
        while True:
            try:
                if kill:
                    await self._launched.kill(job)
                await self._launched.forget(job)
            except Away as failure:
                if not told:
                    _log.warning("an operator's command is removed later: %s", failure)
                told = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            (self._folder / job.id).unlink(missing_ok=True)
            return


def _job(name: str, command: Command) -> Job:
    """As the launcher's backend knows jobs. It is none of the members', and not on their record."""
    asked = Asked(name, Kind.COMMAND, argv=command.line, seconds=command.seconds)
    return Job(0, asked, State.STARTING, Who("", ""), int(time.time()))


class Exec:
    """The handler."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def handlers(self) -> dict[tuple[str, str], Callable[[web.Request], Awaitable[web.Response]]]:
        """As in ``gate.ACCESS``."""
        return {("POST", "/v1/break-glass/exec"): self.run}

    async def run(self, request: web.Request) -> web.Response:
        """Answers when the command has ended, by itself or by force."""
        visit = visit_of(request)
        command = Command.parse(*await json_members(request, "argv", "cwd", "seconds"))
        within = replace(command, seconds=max(1, min(command.seconds, visit.seconds_left())))

        def standing() -> None:
            visit.check()
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError  # Nobody waits for it any more.

        ran = await self._commands.run(within, standing)
        outcome, size = ran.outcome, len(ran.output)
        told = {"exit_code": outcome.exit_code, "sha256": ran.sha256, "truncated": ran.truncated}
        visit.done(bytes=size, **told)
        return web.json_response(
            told
            | {
                "signal": outcome.signal,
                "reason": outcome.reason,
                "output": base64.b64encode(ran.output).decode(),
            }
        )
