"""Logs for an operator: the gateway's and the agent's from the journal, and the output of members' commands.

What members say to the gateway is a conversation and no log, though it runs as a job too: none of it is here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from guest.agent.answers import BadRequest
from guest.agent.breakglass.visits import visit_of
from guest.agent.jobs.asking import checked_id
from guest.agent.jobs.backends import LOG_BYTES
from guest.agent.jobs.logs import Piece, read_piece, size_of
from guest.agent.jobs.records import Job, JobRefused, Kind
from guest.agent.jobs.runner import Runner
from guest.agent.jobs.store import PAGE
from guest.agent.launcher import Launcher, LauncherError
from guest.agent.queries import query, whole_number
from guest.launcher.wire import LOGGED

OF_A_JOB = "job:"


class Logs:
    """Handlers, bound to this guest's launcher and jobs."""

    def __init__(self, launcher: Launcher, runner: Runner) -> None:
        self._launcher, self._runner = launcher, runner

    def handlers(self) -> dict[tuple[str, str], Callable[[web.Request], Awaitable[web.Response]]]:
        """As in ``gate.ACCESS``."""
        return {
            ("GET", "/v1/break-glass/logs"): self.listing,
            ("GET", "/v1/break-glass/logs/read"): self.read,
        }

    async def listing(self, request: web.Request) -> web.Response:
        """The journals, then a page of jobs, the newest first. ``after``: as ``next`` says."""
        after = query(request, "after").get("after", "")
        found = self._runner.page(whole_number("after", after) if after else None)
        jobs, complete = found[:PAGE], len(found) <= PAGE
        commands = [job for job in jobs if _is_log(job)]
        journals = sorted(LOGGED) if self._launcher.exists and not after else []
        told = {
            "logs": [
                *({"name": name, "kind": "journal"} for name in journals),
                *map(self._described, commands),
            ],
            "complete": complete,
        }
        return web.json_response(told if complete else told | {"next": str(jobs[-1].number)})

    async def read(self, request: web.Request) -> web.Response:
        """A piece of a job's log from ``offset`` on, or a journal's newest lines, always from 0."""
        asked = query(request, "name", "offset")
        name, offset = asked.get("name", ""), whole_number("offset", asked.get("offset", "0"))
        piece, over, cut = await self._piece(name, offset)
        visit = visit_of(request)
        visit.check()
        visit.done(bytes=len(piece.data))
        return web.json_response(piece.told(over=over, cut=cut))

    async def _piece(self, name: str, offset: int) -> tuple[Piece, bool, bool]:
        if name in LOGGED:
            text = await self._journal(name)
            return Piece(offset, text[offset:], len(text)), True, False
        if not name.startswith(OF_A_JOB):
            raise BadRequest(f"name must be one of {', '.join(sorted(LOGGED))}, or {OF_A_JOB} and a job's id")
        # In this order: what is over when it is read grows no more.
        job = self._runner.get(checked_id(name.removeprefix(OF_A_JOB)))
        if not _is_log(job):
            raise JobRefused(404, "not_a_log", "this job is a message to the gateway, which no ticket opens")
        backend = self._runner.backend_of(job)
        piece = (
            await asyncio.to_thread(read_piece, backend.log(job), offset)
            if backend
            else Piece(offset, b"", 0)
        )
        return piece, job.state.over, piece.size > LOG_BYTES

    async def _journal(self, name: str) -> bytes:
        if not self._launcher.exists:
            raise JobRefused(503, "no_launcher", "a simulated machine keeps no journal")
        try:
            answer = await self._launcher.ask({"verb": "journal", "of": name})
        except LauncherError as failure:
            raise JobRefused(503, "no_journal", f"the journal cannot be read now: {failure}") from None
        return str(answer.get("text", "")).encode()

    def _described(self, job: Job) -> dict[str, Any]:
        backend = self._runner.backend_of(job)
        return {
            "name": f"{OF_A_JOB}{job.id}",
            "kind": "job",
            "title": job.asked.title,
            "state": job.state,
            "at": job.submitted_at,
            "size": size_of(backend.log(job)) if backend else 0,
        }


def _is_log(job: Job) -> bool:
    return job.asked.kind is Kind.COMMAND
