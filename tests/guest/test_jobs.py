"""Jobs through a real agent and a real launcher's protocol: how they end, what is refused, and who may do what."""

import base64
import os
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from guest.agent.gate import ACCESS, Access
from guest.agent.jobs.logs import PIECE
from guest.agent.jobs.store import FILE
from tests.guest.conftest import Site
from tests.guest.files import Reply, at
from tests.guest.fleet import Agent, running
from tests.guest.shop import Shop, Worker, enter, wait_for
from tests.guest.test_gate import call, pin
from tests.protocol.people import MEMBER, OWNER


@pytest.fixture
def shop(site: Site) -> Shop:
    (site.folder / "jobs").mkdir()
    (site.folder / "workspace").mkdir()
    return Shop(site)


@pytest.fixture
def agent(shop: Shop) -> Iterator[Agent]:
    with shop.launcher(), shop.agent() as started:
        enter(shop, started)
        yield started


@pytest.fixture
def owner(shop: Shop, agent: Agent) -> Worker:
    return shop.arrive(agent)


@pytest.fixture
def member(shop: Shop, agent: Agent) -> Worker:
    return shop.arrive(agent, MEMBER)


def test_all_routes_of_jobs_are_members() -> None:
    routes = {route: access for route, access in ACCESS.items() if route[1].startswith("/v1/jobs")}
    assert len(routes) == 6
    assert set(routes.values()) == {Access.CONTENT}


def test_a_command_from_asking_to_its_log(owner: Worker, shop: Shop) -> None:
    """It is run as it stands, its output kept, its end told; the launcher gets this plan's bounds."""
    name = owner.run("sh", "-c", 'echo "$1"; echo oops >&2', "sh", "$HOME a  b", seconds=50)
    found = owner.until(name)
    assert (found["state"], found["reason"], found["exit_code"], found["signal"]) == (
        "succeeded",
        None,
        0,
        None,
    )
    assert found["argv"] == ["sh", "-c", 'echo "$1"; echo oops >&2', "sh", "$HOME a  b"]
    assert found["by"] == {"name": "Olga", "fingerprint": OWNER.key.fingerprint}
    assert found["submitted_at"] <= found["started_at"] <= found["ended_at"] <= time.time()
    assert owner.output(name) == b"$HOME a  b\noops\n"
    memory = int(512 * (1 << 20) * 0.6) // 2
    assert (shop.folder / "starts").read_text() == f"{name} {memory} 256 50 {4 << 20}\n"


@pytest.mark.parametrize(
    ("script", "more", "expected"),
    [
        ("exit 3", {}, ("failed", "exit_code", 3, None)),
        ("kill -9 $$", {}, ("failed", "signal", None, "KILL")),
        ("kill -15 $$", {}, ("failed", "signal", None, "TERM")),
        ("sleep 60", {"seconds": 1}, ("failed", "time_limit", None, "KILL")),
    ],
)
def test_how_a_command_fails(owner: Worker, script: str, more: Any, expected: Any) -> None:
    found = owner.until(owner.run("sh", "-c", script, **more))
    assert (found["state"], found["reason"], found["exit_code"], found["signal"]) == expected


def test_a_job_that_is_not_taken(owner: Worker, shop: Shop) -> None:
    (shop.folder / "refuse").touch()
    found = owner.until(owner.run("true"))
    assert (found["state"], found["reason"]) == ("failed", "not_started")
    assert owner.output(found["id"]) == b""


BAD: list[Any] = [
    [],
    {},
    {"kind": "command"},
    {"kind": "shell", "argv": ["true"]},
    {"kind": ["command"], "argv": ["true"]},
    {"kind": "command", "argv": "true"},
    {"kind": "command", "argv": []},
    {"kind": "command", "argv": [""]},
    {"kind": "command", "argv": ["A=1", "true"]},
    {"kind": "command", "argv": ["a\0"]},
    {"kind": "command", "argv": ["\ud800"]},
    {"kind": "command", "argv": ["a"], "text": "b"},
    {"kind": "command", "argv": ["a"], "uid": 0},
    {"kind": "command", "argv": ["a"], "seconds": 0},
    {"kind": "command", "argv": ["a"], "seconds": True},
    {"kind": "command", "argv": ["a"], "seconds": 604801},
    {"kind": "command", "argv": ["a"], "id": "x"},
    {"kind": "command", "argv": ["a"], "id": "../../../../etc/passwd"},
    {"kind": "command", "argv": ["a"], "id": None},
    {"kind": "message", "text": ""},
    {"kind": "message", "text": "  "},
    {"kind": "message", "text": ["a"]},
    {"kind": "message", "text": "a" * 32769},
    {"kind": "message", "argv": ["a"]},
]


def test_what_is_malformed_is_refused(owner: Worker, shop: Shop) -> None:
    for document in BAD:
        answer = owner.post(document)
        assert (answer.status, answer.code) == (400, "bad_request"), document
    assert owner.listed() == {"jobs": [], "complete": True}
    assert shop.starts() == []
    for route, query in (
        ("/v1/jobs/item", {"id": "../../etc/passwd"}),
        ("/v1/jobs/item", {}),
        ("/v1/jobs/log", {"id": str(uuid.uuid4()), "offset": "-1"}),
        ("/v1/jobs/log", {"id": "x", "offset": "0"}),
        ("/v1/jobs", {"after": "x"}),
        ("/v1/jobs", {"after": "9" * 16}),
        ("/v1/jobs", {"before": "1"}),
    ):
        assert owner.person.ask("GET", at(route, **query)).status in {400, 404}, (route, query)
    name = owner.run("true")
    for offset, wait in (("-1", "0"), ("1.5", "0"), ("0", "21"), ("0", "x"), ("\u0661", "0")):
        answer = owner.person.ask("GET", at("/v1/jobs/log", id=name, offset=offset, wait=wait))
        assert answer.status == 400, (offset, wait)
    unknown = str(uuid.uuid4())
    assert owner.person.ask("GET", at("/v1/jobs/item", id=unknown)).status == 404
    assert owner.cancel(unknown).code == "no_such_job"
    assert owner.forget(unknown).code == "no_such_job"


def test_a_message_needs_the_gateway(owner: Worker) -> None:
    """Which nobody has agreed to here."""
    answer = owner.post({"kind": "message", "text": "hello"})
    assert (answer.status, answer.code) == (403, "agents_not_agreed")


def test_a_simulated_machine_runs_no_commands(site: Site) -> None:
    with running(site.personalisation, site.data, "--launcher", str(site.folder / "none")) as agent:
        pin(agent, site)
        owner = Shop(site).arrive(agent)
        answer = owner.post({"kind": "command", "argv": ["true"]})
        assert (answer.status, answer.code) == (503, "no_launcher")
        assert owner.listed()["jobs"] == []


def test_asked_twice_is_done_once(owner: Worker, member: Worker, shop: Shop) -> None:
    """By id: the same again is the same job, at whatever time; anything else under this id is refused."""
    name = str(uuid.uuid4())
    document = {"kind": "command", "argv": ["true"], "id": name}
    answers = [owner.post(document) for _ in range(3)]
    assert [answer.status for answer in answers] == [201, 200, 200]
    owner.until(name)
    assert owner.post(document).status == 200
    assert owner.post(document | {"argv": ["false"]}).code == "id_taken"
    assert owner.post(document | {"seconds": 5}).code == "id_taken"
    assert member.post(document).code == "id_taken"
    assert shop.starts() == [name]


def test_so_many_run_and_so_many_wait(owner: Worker, site: Site, shop: Shop) -> None:
    """Two run, twenty wait, one more is told so; the queue moves in order when one ends."""
    names = [owner.run("sleep", "60") for _ in range(22)]
    refused = owner.post({"kind": "command", "argv": ["true"]})
    assert (refused.status, refused.code) == (429, "too_many_jobs")
    assert "2 run and 20 wait" in refused.document["message"]
    again = {"kind": "command", "argv": ["sleep", "60"], "id": names[0]}
    assert owner.post(again).status == 200, "what was accepted is not refused when it is asked again"
    wait_for(lambda: len(shop.starts()) == 2)
    states = [each["state"] for each in owner.listed()["jobs"]]
    assert states[:20] == ["queued"] * 20
    assert owner.cancel(names[2]).document["state"] == "cancelled"
    owner.cancel(names[0])
    assert owner.until(names[0])["state"] == "cancelled"
    owner.until(names[3], "running")
    assert owner.item(names[4])["state"] == "queued"
    assert sorted(shop.starts()) == sorted([names[0], names[1], names[3]])
    for name in names:
        owner.cancel(name)


def test_cancelled_with_all_of_its_processes(owner: Worker, shop: Shop) -> None:
    name = owner.run("sh", "-c", "echo begun; sleep 60 & sleep 60")
    wait_for(lambda: owner.output(name) == b"begun\n")
    answer = owner.cancel(name)
    assert (answer.status, answer.document["cancelled_by"]["name"]) == (200, "Olga")
    found = owner.until(name)
    assert (found["state"], found["reason"], found["signal"]) == ("cancelled", None, "TERM")
    assert owner.cancel(name).status == 200, "again is no error"
    assert owner.log(name)["end"] is True
    done = owner.run("true")
    owner.until(done)
    assert owner.cancel(done).code == "over"


def test_who_may_cancel_and_forget(owner: Worker, member: Worker) -> None:
    """All see all; a member ends and forgets their own, an owner everybody's."""
    name = owner.run("sleep", "60")
    assert [each["id"] for each in member.listed()["jobs"]] == [name]
    assert member.item(name)["argv"] == ["sleep", "60"]
    assert member.log(name)["data"] == ""
    assert (member.cancel(name).status, member.cancel(name).code) == (403, "not_yours")
    assert member.forget(name).code == "not_yours"
    assert owner.forget(name).code == "not_over"
    mine = member.run("sleep", "60")
    assert member.cancel(mine).status == 200
    member.until(mine)
    assert member.forget(mine).status == 204
    assert owner.cancel(name).status == 200
    owner.until(name)
    theirs = member.run("sleep", "60")
    assert owner.cancel(theirs).document["cancelled_by"]["name"] == "Olga"


def test_forgotten_with_its_log(owner: Worker, shop: Shop) -> None:
    """Nothing is left of it, in the record or on the disk; its id is free again."""
    name = owner.run("echo", "tell-tale")
    owner.until(name)
    assert owner.forget(name).status == 204
    assert owner.person.ask("GET", at("/v1/jobs/item", id=name)).status == 404
    assert owner.person.ask("GET", at("/v1/jobs/log", id=name)).status == 404
    assert owner.listed()["jobs"] == []
    wait_for(lambda: not list(shop.folder.glob(f"{name}*")))
    wait_for(lambda: owner.post({"kind": "command", "argv": ["true"], "id": name}).status == 201)


def test_a_log_comes_in_pieces_and_says_that_it_was_cut(owner: Worker) -> None:
    """6 MiB, of which 4 are kept: pieces of 256 KiB that fit together, and an end that is told."""
    name = owner.run("sh", "-c", "head -c 6291456 /dev/zero | tr '\\000' x")
    owner.until(name)
    whole, offset, pieces = b"", 0, 0
    while True:
        piece = owner.log(name, offset)
        data = base64.b64decode(piece["data"])
        assert (piece["offset"], piece["next"]) == (offset, offset + len(data))
        assert len(data) <= PIECE
        whole, offset, pieces = whole + data, piece["next"], pieces + 1
        if piece["end"]:
            break
    assert piece["cut"] is True
    assert whole.startswith(b"x" * (4 << 20))
    assert whole[4 << 20 :] == b"\n[the log is full; the rest of the output was dropped]\n"
    assert piece["size"] == len(whole)
    assert pieces == 17
    behind = owner.log(name, 10**12)
    assert (behind["data"], behind["end"], behind["next"]) == ("", True, 10**12)


def test_a_log_is_waited_for(owner: Worker) -> None:
    """The answer comes with the next output, or the end, long before the wait is over; else when it is."""
    name = owner.run("sh", "-c", "sleep 1; echo one; sleep 1.5; exit 1")
    began = time.monotonic()
    piece = owner.log(name, 0, wait="20")
    assert base64.b64decode(piece["data"]) == b"one\n"
    assert (piece["end"], piece["cut"]) == (False, False)
    last = owner.log(name, piece["next"], wait="20")
    assert (last["data"], last["end"]) == ("", True)
    assert time.monotonic() - began < 10
    quiet = owner.run("sleep", "60")
    began = time.monotonic()
    assert owner.log(quiet, 0, wait="1")["end"] is False
    assert 0.9 < time.monotonic() - began < 5
    owner.cancel(quiet)


def test_who_waits_too_often_does_not_wait(owner: Worker) -> None:
    """Connections are few: over four waits of one person, the answer comes at once, and is an answer."""
    name = owner.run("sleep", "60")
    heads = [
        (owner.person.line(), owner.person.headers("GET", path, EMPTY), path)
        for path in [at("/v1/jobs/log", id=name, wait="6")] * 4
    ]
    for line, headers, path in heads:
        line.request("GET", path, headers=headers)
    time.sleep(0.5)
    began = time.monotonic()
    assert owner.log(name, 0, wait="6")["end"] is False
    assert time.monotonic() - began < 3
    for line, _, _ in heads:
        line.close()
    owner.cancel(name)


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_wait_ends_with_its_session(owner: Worker, agent: Agent, site: Site) -> None:
    """Who waits for a log when access is closed gets none of it."""
    name = owner.run("sh", "-c", "sleep 2; echo tell-tale")
    got: list[Reply] = []

    def wait() -> None:
        got.append(owner.person.ask("GET", at("/v1/jobs/log", id=name, wait="20")))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.7)
    assert call(agent, site, "PUT", "/v1/suspended", {"suspended": True})[0] == 200
    waiting.join(timeout=25)
    assert (got[0].status, got[0].code) == (403, "suspended")


def test_the_log_is_read_in_its_folder_only(owner: Worker, shop: Shop, site: Site) -> None:
    """What is put in a log's place is not followed, and nothing hangs on a pipe."""
    (site.folder / "secret").write_text("tell-tale")
    name = owner.run("true")
    owner.until(name)
    log = shop.folder / f"{name}.log"
    log.unlink()
    assert owner.log(name)["data"] == ""
    log.symlink_to(site.folder / "secret")
    assert owner.log(name)["data"] == ""
    log.unlink()
    os.mkfifo(log)
    assert owner.log(name)["data"] == ""


def test_pages_newest_first(owner: Worker) -> None:
    names = []
    for _ in range(53):
        wait_for(lambda: sum(job["state"] == "queued" for job in owner.listed()["jobs"]) < 20)
        names.append(owner.run("true"))
    first = owner.listed()
    assert (len(first["jobs"]), first["complete"]) == (50, False)
    second = owner.listed(after=first["next"])
    assert second["complete"] is True
    assert [each["id"] for each in first["jobs"] + second["jobs"]] == names[::-1]
    assert "argv" not in first["jobs"][0]


def test_suspended_nothing_begins(owner: Worker, agent: Agent, site: Site, shop: Shop) -> None:
    """What runs goes on; what waits waits, also when a place becomes free, and goes on afterwards."""
    first, second, third = owner.run("sleep", "1"), owner.run("sleep", "60"), owner.run("true")
    wait_for(lambda: len(shop.starts()) == 2)
    call(agent, site, "PUT", "/v1/suspended", {"suspended": True})
    wait_for((shop.folder / f"{first}.json").exists)
    time.sleep(3)
    assert shop.starts() == [first, second]
    call(agent, site, "PUT", "/v1/suspended", {"suspended": False})
    again = shop.arrive(agent)
    assert again.until(third)["state"] == "succeeded"
    assert again.item(second)["state"] == "running"
    again.cancel(second)


def test_the_record_is_the_agents_alone(owner: Worker, site: Site) -> None:
    owner.run("true")
    for path in site.data.glob(f"{FILE}*"):
        assert path.stat().st_mode & 0o077 == 0
