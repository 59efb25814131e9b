"""Commands: carried out by the launcher as transient units, which outlive the agent's process."""

import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guest.agent.jobs.backends import LOG_BYTES, Away, NotStarted
from guest.agent.jobs.records import Job, JobRefused, Outcome, Reason, State
from guest.agent.launcher import Launcher, LauncherRefused, LauncherUnavailable
from protocol.enrolment import Limits

SLICE_SHARE = 0.6
SLICE_TASKS = 512
"""Of all jobs together, as jobs.slice says."""
LEAST_MEMORY_BYTES = 16 << 20
CPU_WEIGHT = 100
ASK_SECONDS = 10.0
"""How often the launcher is asked about a job that has left no result."""
GRACE_SECONDS = 15.0
"""How long systemd may know nothing of a job before it counts as lost."""
RESULT_LIMIT = 4096
_RESULTS = {"oom-kill": Reason.OUT_OF_MEMORY, "timeout": Reason.TIME_LIMIT}


@dataclass(frozen=True)
class Bounds:
    """What one job may use: an equal share of what all may."""

    memory_bytes: int
    tasks: int

    @classmethod
    def of(cls, limits: Limits) -> "Bounds":
        memory = int(limits.memory_mib * (1 << 20) * SLICE_SHARE) // limits.jobs_running
        tasks = min(limits.processes, SLICE_TASKS // limits.jobs_running)
        return cls(max(memory, LEAST_MEMORY_BYTES), max(tasks, 4))


class Launched:
    """The backend of commands. ``folder``: where the launcher leaves logs and results."""

    survives = True

    def __init__(self, launcher: Launcher, folder: Path, bounds: Bounds) -> None:
        self.launcher, self._folder, self._bounds = launcher, folder, bounds
        self._asked: dict[str, float] = {}
        self._missing: dict[str, float] = {}

    def check(self) -> None:
        """Raises JobRefused where there is no launcher."""
        if not self.launcher.exists:
            raise JobRefused(503, "no_launcher", "a simulated machine runs no commands")

    async def start(self, job: Job) -> None:
        """Raises NotStarted, Away."""
        request = {
            "verb": "job_start",
            "id": job.id,
            "argv": list(job.asked.argv),
            "memory_bytes": self._bounds.memory_bytes,
            "tasks": self._bounds.tasks,
            "seconds": job.asked.seconds,
            "cpu_weight": CPU_WEIGHT,
            "log_bytes": LOG_BYTES,
        }
        try:
            await self._ask(request)
        except LauncherRefused as refusal:
            # It may have failed half way: what runs all the same is ended before anybody says that none does.
            await self.stop(job)
            raise NotStarted(str(refusal)) from None

    async def look(self, job: Job) -> Outcome | None:
        """Its result; without one, the launcher is asked from time to time. Raises Away."""
        outcome, now = self._result(job.id), time.monotonic()
        if outcome is not None:
            self._asked.pop(job.id, None)
            self._missing.pop(job.id, None)
            return outcome
        due = ASK_SECONDS if job.id not in self._missing and job.cancelled_by is None else 1.0
        if now - self._asked.get(job.id, 0.0) < due:
            return None
        self._asked[job.id] = now
        try:
            state = (await self._ask({"verb": "job_status", "id": job.id})).get("state")
        except LauncherRefused as refusal:
            raise Away(str(refusal)) from None
        if state != "unknown":
            self._missing.pop(job.id, None)
            return None
        since = self._missing.setdefault(job.id, now)
        if now - since < GRACE_SECONDS and job.cancelled_by is None:
            return None
        await self.stop(job)
        return self._result(job.id) or Outcome(State.INTERRUPTED, Reason.LOST)

    def left(self, job: Job) -> Outcome | None:
        """Its result, unless it was the end of the boot that ended it."""
        return self._result(job.id, of_shutdown=False)

    async def stop(self, job: Job) -> None:
        """Raises Away."""
        try:
            await self._ask({"verb": "job_stop", "id": job.id})
        except LauncherRefused as refusal:
            raise Away(str(refusal)) from None

    async def kill(self, job: Job) -> None:
        """End it at once. Raises Away."""
        try:
            await self._ask({"verb": "job_kill", "id": job.id})
        except LauncherRefused as refusal:
            raise Away(str(refusal)) from None

    async def forget(self, job: Job) -> None:
        """Raises Away."""
        try:
            await self._ask({"verb": "job_forget", "id": job.id})
        except LauncherRefused as refusal:
            raise Away(str(refusal)) from None

    def log(self, job: Job) -> Path:
        return self._folder / f"{job.id}.log"

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self.launcher.ask(request)
        except LauncherUnavailable as failure:
            raise Away(str(failure)) from None

    def _result(self, name: str, *, of_shutdown: bool = True) -> Outcome | None:
        try:
            with (self._folder / f"{name}.json").open("rb") as file:
                found: Any = json.loads(file.read(RESULT_LIMIT))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or (found.get("stopping") and not of_shutdown):
            return None
        return outcome_of(found)


def outcome_of(found: dict[str, Any]) -> Outcome:
    """What systemd's words mean: SERVICE_RESULT, EXIT_CODE and EXIT_STATUS of systemd.exec(5)."""
    result, code, status = (str(found.get(name, "")) for name in ("result", "code", "status"))
    exit_code = int(status) if code == "exited" and status.isdecimal() and len(status) < 4 else None
    killed = status if code in {"killed", "dumped"} and hasattr(signal, f"SIG{status}") else None
    if result in _RESULTS:
        return Outcome(State.FAILED, _RESULTS[result], exit_code, killed)
    if killed is not None:  # also where systemd calls the signal a success
        return Outcome(State.FAILED, Reason.SIGNAL, None, killed)
    if result == "success" and exit_code == 0:
        return Outcome(State.SUCCEEDED, None, 0)
    if exit_code:
        return Outcome(State.FAILED, Reason.EXIT_CODE, exit_code)
    return Outcome(State.FAILED, Reason.BROKEN)
