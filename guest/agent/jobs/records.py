"""What a job is, what may become of it, and what is told of it."""

import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from guest.agent.files import FileDamaged

TITLE_LENGTH = 200


class Kind(StrEnum):
    """Who carries it out."""

    COMMAND = "command"
    """The launcher: as user tenant, in the workspace."""
    MESSAGE = "message"
    """The gateway's agent."""


class State(StrEnum):
    """Where a job stands. The last four are final."""

    QUEUED = "queued"
    STARTING = "starting"
    """It may have begun: it is never begun again."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """The machine, or the agent, ended under it. How far it got is not known."""

    @property
    def over(self) -> bool:
        return self not in UNFINISHED


UNFINISHED = frozenset({State.QUEUED, State.STARTING, State.RUNNING})


class Reason(StrEnum):
    """Why a job did not succeed."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    NOT_STARTED = "not_started"
    BROKEN = "broken"
    """Ended by what carries it out, for a reason of its own."""
    MACHINE_RESTARTED = "machine_restarted"
    AGENT_RESTARTED = "agent_restarted"
    LOST = "lost"
    """Nothing of it runs, and nobody noted how it ended."""
    NO_LONGER_A_MEMBER = "no_longer_a_member"
    """Whose job it was left the keyring before it began."""


class JobRefused(Exception):
    """The request is not carried out. ``code`` is for machines; the message says what to change."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class JobsFileError(FileDamaged):
    """The record of jobs cannot be used. The agent stops rather than forget what runs."""


@dataclass(frozen=True)
class Who:
    """A member, as the keyring named them when they asked."""

    name: str
    fingerprint: str

    def told(self) -> dict[str, str]:
        return {"name": self.name, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Asked:
    """What somebody wants done."""

    id: str
    kind: Kind
    argv: tuple[str, ...] = ()
    """Of a command."""
    text: str = ""
    """Of a message."""
    seconds: int = 3600
    """How long it may run."""

    @property
    def title(self) -> str:
        """A line for lists. A script for the shell is shown as it was written."""
        if self.kind is Kind.MESSAGE:
            return self.text[:TITLE_LENGTH]
        script = len(self.argv) == 3 and self.argv[:2] == ("sh", "-c")
        return (self.argv[2] if script else shlex.join(self.argv))[:TITLE_LENGTH]

    @property
    def work(self) -> dict[str, Any]:
        """What is to be done, as asked."""
        return {"argv": list(self.argv)} if self.kind is Kind.COMMAND else {"text": self.text}


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    state: State
    reason: Reason | None = None
    exit_code: int | None = None
    signal: str | None = None
    """Its name without SIG."""


@dataclass(frozen=True)
class Job:
    """A job on record. Times in seconds since 1970."""

    number: int
    asked: Asked
    state: State
    by: Who
    submitted_at: int
    boot: str = ""
    """The machine's boot in which it began."""
    started_at: int | None = None
    ended_at: int | None = None
    reason: Reason | None = None
    exit_code: int | None = None
    signal: str | None = None
    cancelled_by: Who | None = None
    """Who wants it ended; it may be running still."""

    @property
    def id(self) -> str:
        return self.asked.id

    def told(self) -> dict[str, Any]:
        """All of it but what it is to do, which is long."""
        return {
            "id": self.id,
            "kind": self.asked.kind,
            "title": self.asked.title,
            "seconds": self.asked.seconds,
            "state": self.state,
            "reason": self.reason,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "by": self.by.told(),
            "cancelled_by": self.cancelled_by.told() if self.cancelled_by else None,
            "submitted_at": self.submitted_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }

    def told_whole(self) -> dict[str, Any]:
        """All of it."""
        return self.told() | self.asked.work
