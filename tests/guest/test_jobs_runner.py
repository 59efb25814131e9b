"""The parts of jobs, one by one: what may be asked, the record, boots, messages, bounds, results."""

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest.agent.answers import BadRequest
from guest.agent.jobs import runner as running
from guest.agent.jobs.asking import MAX_TEXT_BYTES, parse
from guest.agent.jobs.backends import LOG_BYTES, Backend
from guest.agent.jobs.launched import Bounds, Launched, outcome_of
from guest.agent.jobs.logs import PIECE, read_piece, size_of
from guest.agent.jobs.records import (
    Asked,
    Job,
    JobRefused,
    JobsFileError,
    Kind,
    Outcome,
    Reason,
    State,
    Who,
)
from guest.agent.jobs.runner import Runner
from guest.agent.jobs.spoken import Answer, MessageFailed, Spoken, Write
from guest.agent.jobs.store import FILE, Store
from guest.agent.launcher import Launcher
from guest.launcher.wire import parse as launcher_parse
from protocol.enrolment import LIMIT_RANGES, Limits

OLGA, MEL = Who("Olga", "a" * 64), Who("Mel", "b" * 64)
LIMITS = Limits(memory_mib=512, processes=512, jobs_running=2, jobs_waiting=3, gateway_idle_seconds=1800)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def command(*argv: str, **more: Any) -> Asked:
    return Asked(str(uuid.uuid4()), Kind.COMMAND, argv=argv or ("true",), **more)


def message(text: str = "hello", **more: Any) -> Asked:
    return Asked(str(uuid.uuid4()), Kind.MESSAGE, text=text, **more)


# What may be asked


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "kind": st.sampled_from(["command", "message"]) | JSON,
            "argv": st.lists(st.text(max_size=8), max_size=4) | JSON,
            "text": JSON,
            "seconds": st.integers(0, 10**7) | JSON,
            "id": st.uuids().map(str) | JSON,
            "uid": JSON,
        },
    )
    | JSON
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_asked_is_understood_or_refused(document: Any) -> None:
    """Nothing else happens, and what is understood is what was said and what the launcher takes."""
    try:
        asked = parse(json.dumps(document).encode())
    except BadRequest:
        return
    assert asked.kind == document["kind"]
    assert asked.seconds == document.get("seconds", 3600)
    assert asked.id == document.get("id", asked.id)
    if asked.kind is Kind.MESSAGE:
        assert asked.text == document["text"]
        return
    assert list(asked.argv) == document["argv"]
    request = {"verb": "job_start", "id": asked.id, "argv": document["argv"], "seconds": asked.seconds}
    bounds = {"memory_bytes": 64 << 20, "tasks": 32, "cpu_weight": 100, "log_bytes": LOG_BYTES}
    launcher_parse(json.dumps(request | bounds).encode())


@given(st.binary(max_size=200))
def test_what_is_no_json_is_refused(body: bytes) -> None:
    try:
        json.loads(body)
    except ValueError:
        with pytest.raises(BadRequest):
            parse(body)


def test_a_long_message_fits_and_a_longer_does_not() -> None:
    """Measured in bytes."""
    text = "ä" * (MAX_TEXT_BYTES // 2)
    assert parse(json.dumps({"kind": "message", "text": text}).encode()).text == text
    with pytest.raises(BadRequest):
        parse(json.dumps({"kind": "message", "text": text + "b"}).encode())


def test_the_longest_command_fits_the_launchers_line() -> None:
    """However JSON has to write it."""
    argv = ["\x01" * 16_000, "\N{PILE OF POO}" * 4_000]
    asked = parse(
        json.dumps(
            {"kind": "command", "argv": ["echo", "\x01" * 9_000, "ä" * 11_000]}, ensure_ascii=False
        ).encode()
    )
    assert len(asked.argv) == 3
    request = {"verb": "job_start", "id": asked.id, "argv": argv, "seconds": 1}
    bounds = {"memory_bytes": 64 << 20, "tasks": 32, "cpu_weight": 100, "log_bytes": LOG_BYTES}
    line = json.dumps(request | bounds, ensure_ascii=False).encode()
    assert len(line) < 256 * 1024
    launcher_parse(line)


@given(st.fixed_dictionaries({name: st.integers(*span) for name, span in LIMIT_RANGES.items()}))
def test_bounds_are_fair_and_the_launchers(limits: dict[str, int]) -> None:
    """Every plan's share is one that the launcher takes; together they are no more than all may have."""
    plan = Limits(**limits)
    bounds = Bounds.of(plan)
    request = {"verb": "job_start", "id": str(uuid.uuid4()), "argv": ["a"], "seconds": 1, "cpu_weight": 1}
    tasks, memory = bounds.tasks, min(bounds.memory_bytes, 64 << 30)
    launcher_parse(
        json.dumps(request | {"log_bytes": LOG_BYTES, "tasks": tasks, "memory_bytes": memory}).encode()
    )
    assert tasks <= max(plan.processes, 4)
    assert bounds.memory_bytes * plan.jobs_running <= max(
        plan.memory_mib << 20, (16 << 20) * plan.jobs_running
    )


# How jobs end


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (("success", "exited", "0"), Outcome(State.SUCCEEDED, None, 0)),
        (("exit-code", "exited", "3"), Outcome(State.FAILED, Reason.EXIT_CODE, 3)),
        (("signal", "killed", "KILL"), Outcome(State.FAILED, Reason.SIGNAL, None, "KILL")),
        (("success", "killed", "TERM"), Outcome(State.FAILED, Reason.SIGNAL, None, "TERM")),
        (("core-dump", "dumped", "SEGV"), Outcome(State.FAILED, Reason.SIGNAL, None, "SEGV")),
        (("timeout", "killed", "TERM"), Outcome(State.FAILED, Reason.TIME_LIMIT, None, "TERM")),
        (("oom-kill", "killed", "TERM"), Outcome(State.FAILED, Reason.OUT_OF_MEMORY, None, "TERM")),
        (("oom-kill", "exited", "137"), Outcome(State.FAILED, Reason.OUT_OF_MEMORY, 137)),
        (("resources", "", ""), Outcome(State.FAILED, Reason.BROKEN)),
        (("success", "", ""), Outcome(State.FAILED, Reason.BROKEN)),
        (("", "", ""), Outcome(State.FAILED, Reason.BROKEN)),
    ],
)
def test_what_systemds_words_mean(found: tuple[str, str, str], outcome: Outcome) -> None:
    assert outcome_of(dict(zip(("result", "code", "status"), found, strict=True))) == outcome


@given(
    st.dictionaries(
        st.sampled_from(["result", "code", "status"]), JSON | st.sampled_from(["success", "exited", "0"])
    )
)
def test_only_one_result_is_a_success(found: dict[str, Any]) -> None:
    if outcome_of(found).state is State.SUCCEEDED:
        assert {name: str(value) for name, value in found.items()} == {
            "result": "success",
            "code": "exited",
            "status": "0",
        }


def test_a_result_of_the_machines_end_is_no_result(tmp_path: Path) -> None:
    """After a boot, what shutting down has ended was interrupted; what ended before has its result."""
    backend = Launched(Launcher(tmp_path / "none"), tmp_path, Bounds(64 << 20, 32))
    job = Job(1, command(), State.RUNNING, OLGA, 0)
    assert backend.left(job) is None
    told = {"result": "success", "code": "exited", "status": "0"}
    for stopping, expected in ((True, None), (False, State.SUCCEEDED)):
        (tmp_path / f"{job.id}.json").write_text(json.dumps(told | {"stopping": stopping}))
        found = backend.left(job)
        assert (found.state if found else None) == expected
    for text in ("", "[]", "{", "[" * 5000):
        (tmp_path / f"{job.id}.json").write_text(text)
        assert backend.left(job) is None


# The record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_the_record_outlives_a_restart(tmp_path: Path) -> None:
    asked = [command("echo", "ä\n\x01", seconds=7), message("“hello”")]
    store = Store(tmp_path)
    for each in asked:
        store.add(each, OLGA, 5)
    store.claim(asked[0].id, "boot", 6)
    store.started(asked[0].id)
    store.cancel_begun(asked[0].id, MEL)
    before = store.page(None)
    store.close()
    again = Store(tmp_path)
    assert again.page(None) == before
    first = again.get(asked[0].id)
    assert first is not None
    assert (first.asked, first.by, first.cancelled_by, first.boot) == (asked[0], OLGA, MEL, "boot")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("PRAGMA user_version=2", "version 2"),
        ("UPDATE job SET state = 'flying'", "damaged"),
        ("UPDATE job SET work = '[]'", "damaged"),
        ("UPDATE job SET work = '{'", "damaged"),
        ("ALTER TABLE job RENAME COLUMN boot TO shoe", "damaged"),
        ("DROP TABLE job", "damaged"),
    ],
)
def test_a_record_of_somebody_elses_is_refused(tmp_path: Path, change: str, words: str) -> None:
    store = Store(tmp_path)
    store.add(command(), OLGA, 1)
    store.close()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute(change)
    database.close()
    with pytest.raises(JobsFileError, match=words):
        Store(tmp_path)


def test_a_page_of_the_record_that_is_damaged(tmp_path: Path) -> None:
    """In the middle of the file, where opening alone would not see it."""
    store = Store(tmp_path)
    for _ in range(200):
        store.add(command("x" * 400), OLGA, 1)
    store.close()
    data = bytearray((tmp_path / FILE).read_bytes())
    for at in range(4096 * 3, len(data) - 4096, 4096):
        data[at : at + 64] = b"\xff" * 64
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(JobsFileError, match="damaged"):
        Store(tmp_path)


@given(
    st.lists(st.tuples(st.sampled_from(["queued", "running", "over"]), st.integers(0, 9)), max_size=12),
    st.integers(0, 6),
    st.integers(0, 20),
)
@settings(max_examples=60, deadline=None)
def test_the_oldest_that_are_over_go_first(tmp_path_factory: Any, jobs: Any, kept: int, room: int) -> None:
    """Beyond so many, or so many bytes of logs; whatever waits or runs stays."""
    store = Store(tmp_path_factory.mktemp("store"))
    over = []
    for state, size in jobs:
        asked = command()
        store.add(asked, OLGA, 1)
        if state != "queued":
            store.claim(asked.id, "boot", 1)
        if state == "over":
            store.finish(asked.id, Outcome(State.SUCCEEDED), size, 1)
            over.append((asked.id, size))
    store.hide_surplus(kept, room)
    expected, total = set(), 0
    for place, (name, size) in enumerate(reversed(over)):
        total += size
        if place >= kept or total > room:
            expected.add(name)
    assert {job.id for job in store.hidden()} == expected
    store.close()


def test_only_what_is_over_is_forgotten(store: Store) -> None:
    asked = command()
    store.add(asked, OLGA, 1)
    assert not store.hide(asked.id)
    store.claim(asked.id, "boot", 1)
    assert not store.hide(asked.id)
    store.finish(asked.id, Outcome(State.SUCCEEDED), 0, 1)
    store.remove(asked.id)
    assert store.get(asked.id) is not None, "not before it is hidden"
    assert store.hide(asked.id)
    assert store.get(asked.id) is None
    assert store.taken(asked.id)
    store.remove(asked.id)
    assert not store.taken(asked.id)


def test_a_job_is_claimed_once(store: Store) -> None:
    asked = command()
    store.add(asked, OLGA, 1)
    assert [store.claim(asked.id, "boot", 1) for _ in range(2)] == [True, False]
    assert not store.cancel_waiting(asked.id, OLGA, None, 2)
    other = command()
    store.add(other, OLGA, 1)
    assert store.cancel_waiting(other.id, OLGA, None, 2)
    assert not store.claim(other.id, "boot", 3)


# Logs


def test_a_piece_of_a_log_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert read_piece(path, 5).told(over=False, cut=False)["data"] == ""
    path.write_bytes(b"a" * PIECE + b"b")
    first, second = read_piece(path, 0), read_piece(path, PIECE)
    assert (len(first.data), second.data, second.size) == (PIECE, b"b", PIECE + 1)
    assert (first.told(over=True, cut=False)["end"], second.told(over=True, cut=False)["end"]) == (
        False,
        True,
    )
    assert second.told(over=False, cut=False)["end"] is False, "what runs may write more"
    assert read_piece(tmp_path, 0).data == b""
    assert size_of(tmp_path / "none") == 0


# The runner


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
