"""Jobs, when the agent, the launcher or the record breaks: nothing lost, nothing begun twice, nothing made up."""

import threading
import time
import uuid
from dataclasses import replace

import pytest

from guest.agent.jobs.store import FILE
from protocol.keyrings import Keyring
from protocol.persons import Purpose
from tests.guest.conftest import Site
from tests.guest.fleet import LIMITS, TENANT_ID, Agent, personalise, start
from tests.guest.shop import OVER, Shop, enter, wait_for
from tests.guest.test_gate import call
from tests.protocol.people import MEMBER, OWNER, entry, keyring


@pytest.fixture
def shop(site: Site) -> Shop:
    (site.folder / "jobs").mkdir()
    (site.folder / "workspace").mkdir()
    return Shop(site)


def test_jobs_outlive_the_agent(shop: Shop) -> None:
    """One ends while no agent is there, one runs on, one waits: all is told, and nothing is begun twice."""
    with shop.launcher():
        with shop.agent() as agent:
            owner = enter(shop, agent)
            short = owner.run("sh", "-c", "sleep 1; echo done; exit 4")
            long = owner.run("sh", "-c", "sleep 3; echo on")
            waiting = owner.run("true")
            wait_for(lambda: len(shop.starts()) == 2)
            agent.process.kill()
            agent.process.wait()
        wait_for((shop.folder / f"{short}.json").exists)
        with shop.agent() as agent:
            owner = shop.arrive(agent)
            found = owner.until(short)
            assert (found["state"], found["exit_code"]) == ("failed", 4)
            assert owner.output(short) == b"done\n"
            assert owner.until(long)["state"] == "succeeded"
            assert owner.until(waiting)["state"] == "succeeded"
    assert sorted(shop.starts()) == sorted([short, long, waiting])


def test_killed_while_the_launcher_starts_it(shop: Shop) -> None:
    """The record says starting, and the launcher has begun: who comes after asks again, and it runs once."""
    (shop.folder / "slow").touch()
    with shop.launcher():
        with shop.agent() as agent:
            owner = enter(shop, agent)
            name = owner.run("sh", "-c", "echo once; sleep 2")
            wait_for(lambda: shop.starts() == [name])
            assert owner.item(name)["state"] == "starting"
            agent.process.kill()
            agent.process.wait()
        with shop.agent() as agent:
            owner = shop.arrive(agent)
            assert owner.until(name)["state"] == "succeeded"
            assert owner.output(name) == b"once\n"
    assert shop.starts() == [name]


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4])
def test_killed_at_any_moment(shop: Shop, delay: float) -> None:
    """What was accepted is done, once, however the agent dies; who asks again gets the same job."""
    names = [str(uuid.uuid4()) for _ in range(6)]
    documents = [
        {"kind": "command", "argv": ["sh", "-c", f"echo {each}"], "id": each, "seconds": 60} for each in names
    ]
    with shop.launcher():
        with shop.agent() as agent:
            owner = enter(shop, agent)
            killer = threading.Timer(delay, agent.process.kill)
            killer.start()
            accepted = []
            for document in documents:
                try:
                    if owner.post(document).status == 201:
                        accepted.append(document["id"])
                except OSError:
                    break
            killer.join()
            agent.process.wait()
        with shop.agent() as agent:
            owner = shop.arrive(agent)
            known = {each["id"] for each in owner.listed()["jobs"]}
            assert set(accepted) <= known
            for document in documents:
                assert owner.post(document).status in {200, 201}
            for name in names:
                assert owner.until(name)["state"] == "succeeded"
                assert owner.output(name) == f"{name}\n".encode()
    assert sorted(shop.starts()) == sorted(names)


def test_without_a_launcher_jobs_wait(shop: Shop) -> None:
    """It is asked again until it answers; what ran meanwhile is not lost, and can be cancelled then."""
    with shop.launcher(), shop.agent() as agent:
        owner = enter(shop, agent)
        name = owner.run("sleep", "60")
        owner.until(name, "running")
        keep = shop.socket.with_suffix(".away")
        shop.socket.rename(keep)
        assert owner.cancel(name).status == 200
        time.sleep(1)
        assert owner.item(name)["state"] == "running"
        keep.rename(shop.socket)
        assert owner.until(name)["state"] == "cancelled"


def test_a_start_that_leads_nowhere_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher died between note and start: cancelled at once if asked, and never begun again."""
    (shop.folder / "swallow").touch()
    with shop.launcher(), shop.agent() as agent:
        owner = enter(shop, agent)
        first, second = owner.run("true"), owner.run("true")
        owner.until(first, "running")
        owner.cancel(first)
        assert owner.until(first)["state"] == "cancelled"
        wait_for(lambda: owner.item(second)["state"] in OVER, seconds=30)
        found = owner.item(second)
        assert (found["state"], found["reason"]) == ("interrupted", "lost")
    assert sorted(shop.starts()) == sorted([first, second])


def test_who_has_left_begins_nothing(shop: Shop) -> None:
    """A job that still waits when its member is removed is cancelled, and says why."""
    shop.site.personalisation = personalise(
        shop.site.folder, shop.site.authority, limits=replace(LIMITS, jobs_running=1)
    )
    with shop.launcher(), shop.agent() as agent:
        owner = enter(shop, agent)
        running_one = owner.run("sleep", "60")
        name = shop.arrive(agent, MEMBER).run("true")
        remove_member(agent, shop.site)
        owner.cancel(running_one)
        found = owner.until(name)
        assert (found["state"], found["reason"]) == ("cancelled", "no_longer_a_member")
    assert shop.starts() == [running_one]


def remove_member(agent: Agent, site: Site) -> None:
    first = keyring(TENANT_ID, entry(OWNER.key, name="Olga"), entry(MEMBER.key, "member", "Mel"))
    after = keyring(TENANT_ID, entry(OWNER.key, name="Olga"), version=2, previous=Keyring.parse(first).hash)
    body = {"document": after, "signature": OWNER.sign(Purpose.KEYRING, after)}
    assert call(agent, site, "PUT", "/v1/keyring", body)[0] == 200


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be one" * 100, b"SQLite format 3\0junk"]
)
def test_a_damaged_record_stops_the_agent(site: Site, content: bytes) -> None:
    """It does not begin a new one: that would forget what runs."""
    site.data.mkdir(mode=0o700)
    (site.data / FILE).write_bytes(content)
    process = start(site.personalisation, site.data)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the record of jobs (jobs.sqlite3) is damaged" in said
    assert (site.data / FILE).read_bytes() == content
