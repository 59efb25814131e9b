"""Messages: carried out by a coroutine of this process, which writes the reply into the job's log."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from guest.agent.files import make_private_folder
from guest.agent.jobs.backends import LOG_BYTES
from guest.agent.jobs.records import Job, Outcome, Reason, State
from guest.launcher.run import NOTE

Write = Callable[[bytes], None]
Answer = Callable[[Job, Write], Awaitable[None]]
"""Answers one message: writes the reply as it comes. Cancelled, it ends at once. Raises MessageFailed."""


class MessageFailed(Exception):
    """There is no answer, or no whole one. The message is put at the end of the log."""


class Spoken:
    """A backend made of an async callable. ``check`` raises JobRefused while messages cannot be taken."""

    survives = False

    def __init__(self, folder: Path, answer: Answer, check: Callable[[], None] = lambda: None) -> None:
        make_private_folder(folder)
        self._folder, self._answer, self._check = folder, answer, check
        self._running: dict[str, asyncio.Task[Outcome]] = {}

    def check(self) -> None:
        """Raises JobRefused."""
        self._check()

    async def start(self, job: Job) -> None:
        if job.id not in self._running:
            self._running[job.id] = asyncio.create_task(self._carry_out(job))

    async def look(self, job: Job) -> Outcome | None:
        task = self._running.get(job.id)
        if task is None:
            return Outcome(State.INTERRUPTED, Reason.LOST)
        if not task.done():
            return None
        return Outcome(State.CANCELLED) if task.cancelled() else task.result()

    def left(self, _job: Job) -> Outcome | None:
        return None

    async def stop(self, job: Job) -> None:
        if task := self._running.get(job.id):
            task.cancel()

    async def forget(self, job: Job) -> None:
        self._running.pop(job.id, None)
        self.log(job).unlink(missing_ok=True)

    def log(self, job: Job) -> Path:
        return self._folder / f"{job.id}.log"

    async def _carry_out(self, job: Job) -> Outcome:
        with self.log(job).open("wb", buffering=0) as file:
            write = _bounded(file.write)
            try:
                async with asyncio.timeout(job.asked.seconds) as limit:
                    await self._answer(job, write)
            except TimeoutError:
                return Outcome(State.FAILED, Reason.TIME_LIMIT if limit.expired() else Reason.BROKEN)
            except MessageFailed as failure:
                write(f"\n[{failure}]\n".encode())
                return Outcome(State.FAILED, Reason.BROKEN)
            except Exception as failure:
                # Only the kind: a message could repeat what the member wrote.
                write(f"\n[the agent failed: {type(failure).__name__}]\n".encode())
                return Outcome(State.FAILED, Reason.BROKEN)
        return Outcome(State.SUCCEEDED)


def _bounded(write: Callable[[bytes], object]) -> Write:
    """As the launcher does with a command's output: over the limit, or on a full volume, it is dropped."""
    left = LOG_BYTES
    told = False

    def bounded(data: bytes) -> None:
        nonlocal left, told
        kept = data[:left]
        note = NOTE if len(data) > left and not told else b""
        told, left = told or bool(note), left - len(kept)
        try:
            write(kept + note)
        except OSError:
            left, told = 0, True

    return bounded
