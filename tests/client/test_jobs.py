"""Jobs from the command line: asked for once, followed to their end, and nothing of theirs obeyed."""

import io
import json
import sys
import time
import uuid

import pytest

from client.commands import jobs
from tests.client.conftest import Person
from tests.client.fake import Answer, Fake


def asked(fake: Fake, method: str = "POST", path: str = "/v1/jobs") -> list[dict[str, object]]:
    return [each.document for each in fake.asked if (each.method, each.path) == (method, path)]


def test_run_and_leave(fake: Fake, owner: Person) -> None:
    """Words after -- are the command's, also what looks like an option of ours."""
    name = owner.ok("jobs", "run", "acme", "--seconds", "60", "--", "ls", "-l", "--follow", "a b").strip()
    (request,) = asked(fake)
    assert request == {
        "kind": "command",
        "argv": ["ls", "-l", "--follow", "a b"],
        "seconds": 60,
        "id": str(uuid.UUID(name)),
    }


def test_run_and_follow(fake: Fake, owner: Person) -> None:
    ended = owner.run("jobs", "run", "acme", "--follow", "--", "make")
    assert (ended.status, ended.out) == (0, "one\ntwo\n")
    assert f"Job {fake.jobs.jobs[0]['id']}" in ended.err


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ({"state": "failed", "reason": "exit_code", "exit_code": 3}, "failed, exit code 3"),
        ({"state": "failed", "reason": "signal", "signal": "KILL"}, "failed by signal KILL"),
        ({"state": "failed", "reason": "out_of_memory"}, "more memory"),
        ({"state": "interrupted", "reason": "machine_restarted"}, "the machine was restarted"),
        ({"state": "failed", "reason": "of_a_later_agent"}, "of_a_later_agent"),
        ({"state": "cancelled"}, "cancelled"),
    ],
)
def test_what_does_not_succeed_ends_with_1(
    fake: Fake, owner: Person, ends: dict[str, object], words: str
) -> None:
    fake.jobs.ends = ends
    ended = owner.run("jobs", "run", "acme", "--follow", "--", "make")
    assert (ended.status, ended.out) == (1, "one\ntwo\n")
    assert words in ended.err
    assert words in owner.ok("jobs", "show", "acme", fake.jobs.jobs[0]["id"])


def test_an_answer_that_was_lost_makes_no_second_job(fake: Fake, owner: Person) -> None:
    """Asked again under the same id."""
    lost = [True]

    def lose(answer: Answer) -> Answer | None:
        return None if lost and lost.pop() else answer

    fake.bent["POST", "/v1/jobs"] = lose
    name = owner.ok("jobs", "run", "acme", "--", "make").strip()
    assert [each["id"] for each in asked(fake)] == [name, name]
    assert len(fake.jobs.jobs) == 1


def test_a_message(fake: Fake, owner: Person) -> None:
    assert owner.run("jobs", "message", "acme", "--follow", "what is new?").out == "one\ntwo\n"
    (request,) = asked(fake)
    assert (request["kind"], request["text"]) == ("message", "what is new?")


def test_list_page_by_page(fake: Fake, owner: Person) -> None:
    fake.jobs.page = 2
    names = [owner.ok("jobs", "run", "acme", "--", "echo", str(n)).strip() for n in range(5)]
    first = owner.run("jobs", "list", "acme")
    assert [line.split()[0] for line in first.out.splitlines()[1:]] == names[:2:-1]
    assert "--all" in first.err
    assert len(owner.ok("jobs", "list", "acme", "--all").splitlines()) == 6
    found = json.loads(owner.ok("jobs", "list", "acme", "--all", "--json"))
    assert [job["id"] for job in found["jobs"]] == names[::-1]


def test_log_cancel_forget(fake: Fake, owner: Person) -> None:
    fake.jobs.cut = True
    name = owner.ok("jobs", "run", "acme", "--", "make").strip()
    assert "being cancelled" not in owner.ok("jobs", "show", "acme", name)
    assert "within a few seconds" in owner.ok("jobs", "cancel", "acme", name)
    assert "being cancelled" in owner.ok("jobs", "list", "acme")
    ended = owner.run("jobs", "log", "acme", name)
    assert (ended.status, ended.out) == (0, "one\ntwo\n")
    assert "dropped" in ended.err
    assert owner.ok("jobs", "forget", "acme", name) == "Forgotten.\n"
    assert "no such job" in owner.refused("jobs", "show", "acme", name)


def test_output_is_whole_in_a_pipe_and_tamed_on_a_terminal(
    fake: Fake, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job's bytes could move the cursor, or answer for the person."""
    fake.jobs.output = [b"a\x1b[2Jb\n\t\xc3", b"\xa4\r\x07\xff\n"]
    name = owner.ok("jobs", "run", "acme", "--", "make").strip()
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw))
    assert owner.run("jobs", "log", "acme", name).status == 0
    sys.stdout.flush()
    assert raw.getvalue() == b"".join(fake.jobs.output)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert owner.run("jobs", "log", "acme", name).status == 0
    assert terminal.getvalue() == "a?[2Jb\n\tä??\N{REPLACEMENT CHARACTER}\n"


def test_titles_and_names_are_tamed(fake: Fake, owner: Person) -> None:
    name = owner.ok("jobs", "run", "acme", "--", "x\x1b[2J").strip()
    fake.jobs.jobs[0]["by"] = {"name": "\x1b]0;Mel", "fingerprint": "b" * 64}
    for words in (("list", "acme"), ("show", "acme", name)):
        assert "\x1b" not in owner.ok("jobs", *words)


@pytest.mark.parametrize(
    "piece",
    [
        {"data": "*"},
        {"data": None},
        {"offset": 5},
        {"next": 1},
        {"end": "yes"},
        {"size": -1.5},
    ],
)
def test_a_guest_that_tells_nonsense(fake: Fake, owner: Person, piece: dict[str, object]) -> None:
    name = owner.ok("jobs", "run", "acme", "--", "make").strip()
    fake.bend("GET", "/v1/jobs/log", **piece)
    owner.refused("jobs", "log", "acme", name)
    fake.bend("GET", "/v1/jobs/item", id="../x", submitted_at=10**30)
    owner.refused("jobs", "show", "acme", name)


def test_a_guest_that_does_not_wait_is_not_flooded(
    fake: Fake, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    name = owner.ok("jobs", "run", "acme", "--", "make").strip()
    silent = Answer(200, {"offset": 0, "next": 0, "size": 0, "end": False, "cut": False, "data": ""})
    fake.breaks("GET", "/v1/jobs/log", silent)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            fake.bent.clear()

    monkeypatch.setattr(time, "sleep", sleep)
    assert owner.ok("jobs", "log", "acme", name, "--follow") == "one\ntwo\n"
    assert slept == [jobs.PAUSE_SECONDS] * 3


def test_who_stops_following_is_told_how_to_go_on(
    fake: Fake, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_given: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "_print_log", interrupted)
    ended = owner.run("jobs", "run", "acme", "--follow", "--", "make")
    assert ended.status == 130
    assert f"jobs log acme {fake.jobs.jobs[0]['id']} --follow" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("run", "acme"),
        ("run", "acme", "--seconds", "0", "--", "ls"),
        ("run", "acme", "--seconds", "9999999999", "--", "ls"),
        ("show", "acme", "x"),
        ("cancel", "acme"),
    ],
)
def test_what_is_typed_wrongly_is_not_sent(fake: Fake, owner: Person, words: tuple[str, ...]) -> None:
    before = len(fake.asked)
    assert owner.run("jobs", *words).status == 2
    assert len(fake.asked) == before
