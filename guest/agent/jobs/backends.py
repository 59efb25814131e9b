"""What can carry a job out. One for each kind is registered with the runner."""

from pathlib import Path
from typing import Protocol

from guest.agent.jobs.records import Job, Outcome

LOG_BYTES = 4 << 20
"""So much of a job's output is kept; the rest is dropped, and the log says so."""


class Away(Exception):
    """Nothing is known now. Ask the same again later."""


class NotStarted(Exception):
    """The job has not begun, and will not."""


class Backend(Protocol):
    """Carries out jobs of one kind. Any call may come again: the agent may die in its middle."""

    survives: bool
    """Whether its jobs outlive the agent's process."""

    def check(self) -> None:
        """Raises JobRefused: such a job cannot be taken now."""

    async def start(self, job: Job) -> None:
        """Begin, unless it has begun before. Raises NotStarted, Away."""

    async def look(self, job: Job) -> Outcome | None:
        """How it ended; None: it has not, as far as is known. Raises Away."""

    def left(self, job: Job, /) -> Outcome | None:
        """How a job of an earlier boot ended, if it did so before that boot's end."""

    async def stop(self, job: Job) -> None:
        """See to it that it ends soon. Raises Away."""

    async def forget(self, job: Job) -> None:
        """Remove what is left of a job that is over. Raises Away."""

    def log(self, job: Job) -> Path:
        """Where its output is; there may be none yet."""
