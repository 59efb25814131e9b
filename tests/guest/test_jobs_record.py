"""What may be asked, what systemd's words mean, the record on the disk, and pieces of logs."""

import json
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest.agent.answers import BadRequest
from guest.agent.jobs.asking import MAX_TEXT_BYTES, parse
from guest.agent.jobs.backends import LOG_BYTES
from guest.agent.jobs.launched import Bounds, Launched, outcome_of
from guest.agent.jobs.logs import PIECE, read_piece, size_of
from guest.agent.jobs.records import (
    Asked,
    Job,
    JobsFileError,
    Kind,
    Outcome,
    Reason,
    State,
    Who,
)
from guest.agent.jobs.store import FILE, Store
from guest.agent.launcher import Launcher
from guest.launcher.wire import parse as launcher_parse
from protocol.enrolment import LIMIT_RANGES, Limits

OLGA, MEL = Who("Olga", "a" * 64), Who("Mel", "b" * 64)
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


@pytest.mark.parametrize("name", ["job", "sqlite_autoindex_job_1"])
def test_a_page_of_the_record_that_is_damaged(tmp_path: Path, name: str) -> None:
    """In the middle of the file, where opening alone would not see it: among the jobs, or in their index."""
    store = Store(tmp_path)
    for _ in range(200):
        store.add(command("x" * 400), OLGA, 1)
    store.close()
    with sqlite3.connect(tmp_path / FILE) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    database.close()
    data = bytearray((tmp_path / FILE).read_bytes())
    at = 4096 * (page - 1)
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
