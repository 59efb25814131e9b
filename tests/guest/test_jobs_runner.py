"""The runner in this process: boots, kinds that share caps, messages, a volume that is full."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from guest.agent.jobs import runner as running
from guest.agent.jobs.backends import LOG_BYTES, Backend
from guest.agent.jobs.records import (
    Asked,
    Job,
    JobRefused,
    Kind,
    Outcome,
    Reason,
    State,
)
from guest.agent.jobs.runner import Runner
from guest.agent.jobs.spoken import Answer, MessageFailed, Spoken, Write
from guest.agent.jobs.store import Store
from protocol.enrolment import Limits
from tests.guest.test_jobs_record import MEL, OLGA, command, message

LIMITS = Limits(memory_mib=512, processes=512, jobs_running=2, jobs_waiting=3, gateway_idle_seconds=1800)


def in_runner(
    folder: Path,
    deed: Callable[[Runner], Awaitable[None]],
    backends: dict[Kind, Backend],
    boot: str = "this boot",
    limits: Limits = LIMITS,
) -> None:
    async def case() -> None:
        runner = Runner(Store(folder), limits, boot, suspended=lambda: False, is_member=lambda _: True)
        for kind, backend in backends.items():
            runner.register(kind, backend)
        runner.begin()
        try:
            async with asyncio.timeout(30):
                await deed(runner)
        finally:
            await runner.close()

    asyncio.run(case())


async def over(runner: Runner, name: str) -> Job:
    while not (job := runner.get(name)).state.over:
        await asyncio.sleep(0.02)
    return job


class Idle:
    """A backend whose jobs never end by themselves."""

    survives = True

    def __init__(self, left: Outcome | None = None) -> None:
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self._left = left

    def check(self) -> None:
        pass

    async def start(self, job: Job) -> None:
        self.begun.append(job.id)

    async def look(self, job: Job) -> Outcome | None:
        return Outcome(State.SUCCEEDED) if job.id in self.stopped else None

    def left(self, _job: Job) -> Outcome | None:
        return self._left

    async def stop(self, job: Job) -> None:
        self.stopped.append(job.id)

    async def forget(self, job: Job) -> None:
        self.begun.remove(job.id)

    def log(self, job: Job) -> Path:
        return Path("/nonexistent") / job.id


@pytest.mark.parametrize("state", ["starting", "running"])
@pytest.mark.parametrize(
    ("boot", "left", "expected"),
    [
        ("this boot", None, None),
        ("another", None, (State.INTERRUPTED, Reason.MACHINE_RESTARTED)),
        ("another", Outcome(State.FAILED, Reason.EXIT_CODE, 3), (State.FAILED, Reason.EXIT_CODE)),
    ],
)
def test_what_an_earlier_agent_left(tmp_path: Path, state: str, boot: str, left: Any, expected: Any) -> None:
    """In the same boot it is carried on; in another it was interrupted, unless it had ended before."""
    asked, waiting = command(), command()
    store = Store(tmp_path)
    store.add(asked, OLGA, 1)
    store.claim(asked.id, boot, 1)
    if state == "running":
        store.started(asked.id)
    store.add(waiting, OLGA, 1)
    store.close()
    backend = Idle(left)

    async def deed(runner: Runner) -> None:
        await asyncio.sleep(0.5)
        job = runner.get(asked.id)
        assert ((job.state, job.reason) if expected else job.state) == (expected or State.RUNNING)
        assert runner.get(waiting.id).state is State.RUNNING, "what only waited begins"
        begun_again = expected is None and state == "starting"
        assert backend.begun.count(asked.id) == begun_again, "its backend knows that it began"

    in_runner(tmp_path, deed, {Kind.COMMAND: backend})


def test_a_message_does_not_outlive_the_agent(tmp_path: Path) -> None:
    """Asking again could do the same thing twice."""
    asked = message()
    store = Store(tmp_path)
    store.add(asked, OLGA, 1)
    store.claim(asked.id, "this boot", 1)
    store.close()
    said: list[str] = []

    async def answer(job: Job, _write: Write) -> None:
        said.append(job.id)

    async def deed(runner: Runner) -> None:
        job = await over(runner, asked.id)
        assert (job.state, job.reason) == (State.INTERRUPTED, Reason.AGENT_RESTARTED)

    in_runner(tmp_path, deed, {Kind.MESSAGE: Spoken(tmp_path / "messages", answer)})
    assert said == []


def spoken(tmp_path: Path, answer: Answer, asked: Asked) -> tuple[Job, bytes]:
    """The job, once it is over, and its log."""
    backend = Spoken(tmp_path / "messages", answer)
    found: list[Job] = []

    async def deed(runner: Runner) -> None:
        runner.submit(asked, OLGA)
        found.append(await over(runner, asked.id))

    in_runner(tmp_path, deed, {Kind.MESSAGE: backend})
    return found[0], backend.log(found[0]).read_bytes()


def test_a_reply_is_streamed_into_the_log(tmp_path: Path) -> None:
    async def answer(job: Job, write: Write) -> None:
        for word in job.asked.text.split():
            write(word.encode() + b".")
            await asyncio.sleep(0)

    job, log = spoken(tmp_path, answer, message("a bc"))
    assert (job.state, log) == (State.SUCCEEDED, b"a.bc.")


def test_a_long_reply_is_cut(tmp_path: Path) -> None:
    async def answer(_job: Job, write: Write) -> None:
        for _ in range(5):
            write(b"x" * (1 << 20))

    _, log = spoken(tmp_path, answer, message())
    assert log == b"x" * LOG_BYTES + b"\n[the log is full; the rest of the output was dropped]\n"


@pytest.mark.parametrize(
    ("failure", "reason", "words"),
    [
        (MessageFailed("the gateway was stopped"), Reason.BROKEN, b"\n[the gateway was stopped]\n"),
        (ValueError("what the member wrote"), Reason.BROKEN, b"\n[the agent failed: ValueError]\n"),
        (TimeoutError(), Reason.BROKEN, b""),
        (None, Reason.TIME_LIMIT, b""),
    ],
)
def test_how_a_message_fails(tmp_path: Path, failure: Exception | None, reason: Reason, words: bytes) -> None:
    async def answer(_job: Job, write: Write) -> None:
        write(b"begun")
        if failure:
            raise failure
        await asyncio.sleep(60)

    job, log = spoken(tmp_path, answer, message(seconds=1))
    assert (job.state, job.reason, log) == (State.FAILED, reason, b"begun" + words)


def test_a_message_is_cancelled(tmp_path: Path) -> None:
    ended: list[str] = []

    async def answer(job: Job, _write: Write) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(job.id)

    asked = message()

    async def deed(runner: Runner) -> None:
        runner.submit(asked, OLGA)
        while runner.get(asked.id).state is not State.RUNNING:
            await asyncio.sleep(0.02)
        runner.cancel(asked.id, MEL)
        job = await over(runner, asked.id)
        assert (job.state, job.cancelled_by) == (State.CANCELLED, MEL)

    in_runner(tmp_path, deed, {Kind.MESSAGE: Spoken(tmp_path / "messages", answer)})
    assert ended == [asked.id]


def test_what_refuses_messages_is_asked_first(tmp_path: Path) -> None:
    def check() -> None:
        raise JobRefused(409, "no_gateway", "start the gateway first")

    async def answer(_job: Job, _write: Write) -> None:
        raise AssertionError

    async def deed(runner: Runner) -> None:
        with pytest.raises(JobRefused, match="start the gateway"):
            runner.submit(message(), OLGA)
        assert runner.page(None) == []

    in_runner(tmp_path, deed, {Kind.MESSAGE: Spoken(tmp_path / "messages", answer, check)})


def test_kinds_share_the_caps(tmp_path: Path) -> None:
    """Two may run, whatever they are; a kind that nobody carries out holds up no other."""

    async def answer(_job: Job, _write: Write) -> None:
        await asyncio.sleep(60)

    async def deed(runner: Runner) -> None:
        asked = [message(), command(), message(), command()]
        for each in asked:
            runner.submit(each, OLGA)
        await asyncio.sleep(0.1)
        assert [runner.get(each.id).state for each in asked][2:] == [State.QUEUED] * 2
        with pytest.raises(JobRefused) as refused:
            for _ in range(2):
                runner.submit(message(), OLGA)
        assert (refused.value.status, refused.value.code) == (429, "too_many_jobs")

    in_runner(tmp_path, deed, {Kind.COMMAND: Idle(), Kind.MESSAGE: Spoken(tmp_path / "messages", answer)})


def test_the_oldest_are_forgotten_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record and log, once there are too many; those that run stay."""
    monkeypatch.setattr(running, "KEPT_JOBS", 2)

    async def answer(_job: Job, write: Write) -> None:
        write(b"x")

    backend = Spoken(tmp_path / "messages", answer)

    async def deed(runner: Runner) -> None:
        names = []
        for _ in range(5):
            asked = message()
            runner.submit(asked, OLGA)
            await over(runner, asked.id)
            names.append(asked.id)
        while len(runner.page(None)) > 2 or len(list((tmp_path / "messages").iterdir())) > 2:
            await asyncio.sleep(0.05)
        assert [job.id for job in runner.page(None)] == names[:2:-1]
        assert {path.stem for path in (tmp_path / "messages").iterdir()} == set(names[3:])

    in_runner(tmp_path, deed, {Kind.MESSAGE: backend})


def test_a_full_volume_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def deed(runner: Runner) -> None:
        monkeypatch.setattr(Store, "add", full)
        with pytest.raises(JobRefused) as refused:
            runner.submit(command(), OLGA)
        assert (refused.value.status, refused.value.code) == (507, "disk_full")

    in_runner(tmp_path, deed, {Kind.COMMAND: Idle()})


def test_a_note_that_fails_is_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume is full just when a job has begun: it is not begun twice, and its end is noted."""
    monkeypatch.setattr(running, "RETRY_SECONDS", 0.05)
    finish, failing = Store.finish, [True] * 3

    def sometimes(self: Store, *given: Any) -> None:
        if failing:
            failing.pop()
            raise sqlite3.OperationalError("database or disk is full")
        finish(self, *given)

    monkeypatch.setattr(Store, "finish", sometimes)
    backend, asked = Idle(), command()

    async def deed(runner: Runner) -> None:
        runner.submit(asked, OLGA)
        runner.cancel(asked.id, OLGA)
        assert (await over(runner, asked.id)).state is State.CANCELLED
        assert failing == []

    in_runner(tmp_path, deed, {Kind.COMMAND: backend})
    assert backend.begun.count(asked.id) <= 1


def test_what_is_told_is_json() -> None:
    job = Job(1, command("sh", "-c", "it's"), State.RUNNING, OLGA, 5)
    told = json.loads(json.dumps(job.told_whole()))
    assert (told["title"], told["argv"], told["state"]) == ("it's", ["sh", "-c", "it's"], "running")
    assert told["by"] == {"name": "Olga", "fingerprint": "a" * 64}
    assert command("sh", "-c", "a", "b c").title == "sh -c a 'b c'"
    long = replace(job, asked=command("x" * 30_000))
    assert len(json.dumps(long.told())) < 2000
    assert astuple(OLGA) == ("Olga", "a" * 64)
