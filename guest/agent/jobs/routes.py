"""The handlers of jobs."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from guest.agent.answers import BadRequest, body_of, json_fields
from guest.agent.gate import SESSION, Gate
from guest.agent.jobs.asking import checked_id, parse
from guest.agent.jobs.backends import LOG_BYTES
from guest.agent.jobs.logs import Piece, read_piece, size_of
from guest.agent.jobs.records import Job, JobRefused, Who
from guest.agent.jobs.runner import Runner
from guest.agent.jobs.store import PAGE
from guest.agent.queries import query, whole_number
from guest.agent.sessions import Session
from guest.agent.streams import Places, TooManyStreams

MAX_WAIT_SECONDS = 20
LOOK_SECONDS = 0.25


class Jobs:
    """Handlers, bound to this guest's jobs."""

    def __init__(self, runner: Runner, gate: Gate) -> None:
        self._runner, self._gate = runner, gate
        self._waiting = Places()

    def statement(self) -> dict[str, int]:
        """What the guest's status says of jobs: how many, and nothing of what they are."""
        return self._runner.counts()

    def handlers(self) -> dict[tuple[str, str], Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """As in ``gate.ACCESS``."""
        return {
            ("POST", "/v1/jobs"): self.submit,
            ("GET", "/v1/jobs"): self.listing,
            ("GET", "/v1/jobs/item"): self.item,
            ("DELETE", "/v1/jobs/item"): self.forget,
            ("GET", "/v1/jobs/log"): self.log,
            ("POST", "/v1/jobs/cancel"): self.cancel,
        }

    async def submit(self, request: web.Request) -> web.Response:
        """201; 200 if the same was asked before under this id."""
        asked = parse(await body_of(request))
        job, new = self._runner.submit(asked, self._who(_session(request)))
        return web.json_response(job.told_whole(), status=201 if new else 200)

    async def listing(self, request: web.Request) -> web.Response:
        """A page, the newest first."""
        after = query(request, "after").get("after", "")
        found = self._runner.page(whole_number("after", after) if after else None)
        jobs, complete = found[:PAGE], len(found) <= PAGE
        told = {"jobs": [job.told() for job in jobs], "complete": complete}
        return web.json_response(told if complete else told | {"next": str(jobs[-1].number)})

    async def item(self, request: web.Request) -> web.Response:
        return web.json_response(self._job(request).told_whole())

    async def cancel(self, request: web.Request) -> web.Response:
        (name,) = await json_fields(request, "id")
        job = self._runner.get(checked_id(name))
        _check_theirs(_session(request), job)
        return web.json_response(self._runner.cancel(job.id, self._who(_session(request))).told_whole())

    async def forget(self, request: web.Request) -> web.Response:
        job = self._job(request)
        _check_theirs(_session(request), job)
        self._runner.forget(job.id)
        return web.Response(status=204)

    async def log(self, request: web.Request) -> web.Response:
        """A piece of a job's output. With ``wait`` it comes when there is some, or when the job is over."""
        asked = query(request, "id", "offset", "wait")
        job = self._runner.get(checked_id(asked.get("id")))
        offset = whole_number("offset", asked.get("offset", "0"))
        wait = whole_number("wait", asked.get("wait", "0"))
        if wait > MAX_WAIT_SECONDS:
            raise BadRequest(f"wait must be at most {MAX_WAIT_SECONDS} seconds")
        try:
            with self._waiting.place(_session(request).member.key.fingerprint):
                await self._something(job.id, offset, wait)
        except TooManyStreams:
            pass  # Waiting is a favour: this one is answered at once.
        self._gate.check_standing(request)
        # In this order: what is over when it is read grows no more.
        job = self._runner.get(job.id)
        backend = self._runner.backend_of(job)
        piece = (
            await asyncio.to_thread(read_piece, backend.log(job), offset)
            if backend
            else Piece(offset, b"", 0)
        )
        return web.json_response(piece.told(over=job.state.over, cut=piece.size > LOG_BYTES))

    async def _something(self, name: str, offset: int, wait: int) -> None:
        """Until the log goes beyond ``offset``, the job is over, or the seconds are."""
        until = time.monotonic() + wait
        while time.monotonic() < until:
            job = self._runner.get(name)
            backend = self._runner.backend_of(job)
            if job.state.over or (backend and size_of(backend.log(job)) > offset):
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _job(self, request: web.Request) -> Job:
        return self._runner.get(checked_id(query(request, "id").get("id")))

    def _who(self, session: Session) -> Who:
        return Who(self._gate.members.name_of(session.member), session.member.key.fingerprint)


def _check_theirs(session: Session, job: Job) -> None:
    if session.member.role != "owner" and session.member.key.fingerprint != job.by.fingerprint:
        raise JobRefused(403, "not_yours", "only who asked for the job, or an owner, may do this")


def _session(request: web.Request) -> Session:
    session = request[SESSION]
    if not isinstance(session, Session):
        raise TypeError("the gate left no session")
    return session
