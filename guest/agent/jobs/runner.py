"""Takes jobs from the queue, has them carried out, and notes how they end.

What the record says is on the disk before anything follows from it: a job is `starting` before it is begun,
so an agent that dies in between asks instead of beginning it again.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable

from guest.agent.jobs.backends import LOG_BYTES, Away, Backend, NotStarted
from guest.agent.jobs.logs import size_of
from guest.agent.jobs.records import Asked, Job, JobRefused, Kind, Outcome, Reason, State, Who
from guest.agent.jobs.store import Store
from protocol.enrolment import Limits

KEPT_JOBS = 500
KEPT_LOG_BYTES = 128 << 20
LOOK_SECONDS = 0.25
IDLE_SECONDS = 2.0
"""How often the queue is looked at although nothing was heard."""
RETRY_SECONDS = 3.0
STOP_AGAIN_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Runner:
    """All jobs of this guest."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        boot: str,
        *,
        suspended: Callable[[], bool],
        is_member: Callable[[str], bool],
    ) -> None:
        """``boot``: of this boot of the machine. ``is_member``: whether the keyring names the fingerprint."""
        self._store, self._limits, self._boot = store, limits, boot
        self._suspended, self._is_member = suspended, is_member
        self._backends: dict[Kind, Backend] = {}
        self._carried: dict[str, asyncio.Task[None]] = {}
        self._stopped: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def register(self, kind: Kind, backend: Backend) -> None:
        """Have ``backend`` carry out jobs of ``kind`` from now on."""
        self._backends[kind] = backend
        self._wake.set()

    def begin(self) -> None:
        """Settle what an earlier process left, and work on the queue from now on."""
        for job in self._store.begun():
            self._settle(job)
        self._loop = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop looking. What runs in the machine goes on."""
        tasks = [*self._carried.values(), *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._store.close()

    def submit(self, asked: Asked, by: Who) -> tuple[Job, bool]:
        """The job on record, and whether it is new. The same asked twice by the same member is one job.

        Raises:
            JobRefused: ``id_taken``, ``too_many_jobs``, ``disk_full``, ``no_gateway``, or a backend's reason.
        """
        known = self._store.get(asked.id)
        if known is not None and (known.asked, known.by.fingerprint) == (asked, by.fingerprint):
            return known, False
        if known is not None or self._store.taken(asked.id):
            raise JobRefused(409, "id_taken", "this id stands for another job: choose a new one")
        backend = self._backends.get(asked.kind)
        if backend is None:
            raise JobRefused(409, "no_gateway", "messages need the gateway, and this machine runs none")
        backend.check()
        running, waiting = len(self._store.begun()), len(self._store.waiting())
        if waiting >= self._limits.jobs_waiting:
            told = f"{running} run and {waiting} wait; {self._limits.jobs_running} may run"
            told += f" and {self._limits.jobs_waiting} wait: cancel one or try later"
            raise JobRefused(429, "too_many_jobs", told)
        try:
            self._store.add(asked, by, _now())
        except sqlite3.OperationalError:
            raise JobRefused(507, "disk_full", "the job cannot be recorded: free some space") from None
        self._fill()
        return self.get(asked.id), True

    def counts(self) -> dict[str, int]:
        """How many may be running, and how many wait."""
        return self._store.counts()

    def get(self, name: str) -> Job:
        """Raises JobRefused: ``no_such_job``."""
        job = self._store.get(name)
        if job is None:
            raise JobRefused(404, "no_such_job", "there is no such job, or it was forgotten")
        return job

    def page(self, before: int | None) -> list[Job]:
        """As the store's."""
        return self._store.page(before)

    def cancel(self, name: str, by: Who) -> Job:
        """End a job, or see to it that it ends soon. Again: the same. Raises JobRefused."""
        job = self.get(name)
        if job.state.over and job.state is not State.CANCELLED:
            raise JobRefused(409, "over", f"the job is over: {job.state}")
        if not self._store.cancel_waiting(name, by, None, _now()):
            self._store.cancel_begun(name, by)
        return self.get(name)

    def forget(self, name: str) -> None:
        """Forget a job that is over, with its log. Raises JobRefused."""
        self.get(name)
        if not self._store.hide(name):
            raise JobRefused(409, "not_over", "cancel the job first, and forget it when it is over")
        self._wake.set()

    def backend_of(self, job: Job) -> Backend | None:
        """None: the kind's is not there now."""
        return self._backends.get(job.asked.kind)

    def _settle(self, job: Job) -> None:
        """What became of a job that an earlier process of the agent began."""
        backend = self._backends.get(job.asked.kind)
        if job.boot != self._boot:
            found = backend.left(job) if backend else None
            self._finish(job, found or Outcome(State.INTERRUPTED, Reason.MACHINE_RESTARTED))
        elif backend is None or not backend.survives:
            self._finish(job, Outcome(State.INTERRUPTED, Reason.AGENT_RESTARTED))
        else:
            self._carry(job.id)

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                self._fill()
                self._store.hide_surplus(KEPT_JOBS, KEPT_LOG_BYTES)
                for job in self._store.hidden():
                    await self._remove(job)
            except Exception as failure:
                _log.error("the queue of jobs: %s", type(failure).__name__)
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _fill(self) -> None:
        """Begin as many of the queue as may run. While the machine is suspended, nothing begins."""
        if self._suspended():
            return
        running = len(self._store.begun())
        for job in self._store.waiting():
            if not self._is_member(job.by.fingerprint):
                self._store.cancel_waiting(job.id, None, Reason.NO_LONGER_A_MEMBER, _now())
            elif running < self._limits.jobs_running and job.asked.kind in self._backends:
                running += self._store.claim(job.id, self._boot, _now())
                self._carry(job.id)

    def _carry(self, name: str) -> None:
        task = asyncio.create_task(self._carry_through(name))
        self._carried[name] = task
        task.add_done_callback(lambda _task: self._carried.pop(name, None))

    async def _carry_through(self, name: str) -> None:
        over = False
        while not over:
            pause = LOOK_SECONDS
            try:
                over = await self._step(name)
            except Exception as failure:
                _log.warning("a job waits for what carries it out: %s", type(failure).__name__)
                pause = RETRY_SECONDS
            if not over:
                await asyncio.sleep(pause)
        self._stopped.pop(name, None)
        self._wake.set()

    async def _step(self, name: str) -> bool:
        """Bring a job that has begun one step on; True: it is over."""
        job = self._store.get(name)
        backend = self._backends.get(job.asked.kind) if job else None
        if job is None or backend is None or job.state.over:
            return True
        if job.state is State.STARTING and job.cancelled_by is None:
            try:
                await backend.start(job)
            except NotStarted as refusal:
                _log.warning("a job was not started: %s", refusal)
                self._finish(job, Outcome(State.FAILED, Reason.NOT_STARTED))
                return True
        if job.state is State.STARTING:
            self._store.started(name)
        if job.cancelled_by is not None:
            await self._stop(backend, job)
        outcome = await backend.look(job)
        if outcome is None:
            return False
        self._finish(job, outcome)
        return True

    async def _stop(self, backend: Backend, job: Job) -> None:
        now = time.monotonic()
        if now - self._stopped.get(job.id, -STOP_AGAIN_SECONDS) >= STOP_AGAIN_SECONDS:
            await backend.stop(job)
            self._stopped[job.id] = now

    def _finish(self, job: Job, outcome: Outcome) -> None:
        backend = self._backends.get(job.asked.kind)
        log_bytes = size_of(backend.log(job)) if backend else 0
        self._store.finish(job.id, outcome, min(log_bytes, 2 * LOG_BYTES), _now())

    async def _remove(self, job: Job) -> None:
        backend = self._backends.get(job.asked.kind)
        try:
            if backend is not None:
                await backend.forget(job)
                self._store.remove(job.id)
        except Away as failure:
            _log.warning("a job is forgotten later: %s", failure)


def _now() -> int:
    return int(time.time())
