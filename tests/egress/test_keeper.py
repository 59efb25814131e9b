"""The keeper and its Squid, real, in a world of namespaces: documents, links, records, and every kind of accident."""

import contextlib
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.portalctl import walls
from provisioning.egress import journal
from provisioning.egress.rules import MAX_BYTES, MAX_TENANTS, AllowedHost, Rules, TenantRules, file_name
from tests.egress.world import (
    ALICE,
    API,
    BOB,
    FLEET,
    PORT,
    SITE,
    USER,
    KeeperProcess,
    World,
    connect,
    fetch,
    served,
    wait_for,
)

Make = Callable[..., KeeperProcess]


def echoes(line: ssl.SSLSocket) -> bool:
    """Whether a tunnel to the outside still carries both ways."""
    with contextlib.suppress(OSError):
        line.sendall(b"still there?")
        return line.recv(100) == b"still there?"
    return False


def opened(world: World) -> ssl.SSLSocket:
    line = connect(world, ALICE, f"{API}:443").tls(world, API)
    assert echoes(line)
    return line


# -- documents -------------------------------------------------------------------------------------------------


def test_what_is_allowed_arrives_and_nothing_else(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API), BOB.rules())
    assert fetch(world, ALICE, API) == b"hello\n"
    assert connect(world, BOB, f"{API}:443").status == 403
    state = keeper.state()
    assert (state["ok"], state["problem"], state["refused"]) == (True, "", 0)
    assert state["serving"] == [str(ALICE.runtime), str(BOB.runtime)]
    assert state["walled"] == {"packets": 0, "bytes": 0}  # good traffic never meets the wall


def test_a_change_is_in_force_in_well_under_five_seconds(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules())
    began = time.monotonic()
    keeper.put(ALICE.rules(API))
    wait_for("the change", lambda: served(world))
    assert time.monotonic() - began < 3


def test_another_runtimes_change_cuts_no_tunnel(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API), BOB.rules(API))
    line = opened(world)
    for hosts in ([], [SITE], [API, SITE]):
        keeper.obey(ALICE.rules(API), BOB.rules(*hosts))
        assert echoes(line)
    keeper.obey(ALICE.rules(API, SITE))  # more for herself, and Bob gone
    assert echoes(line)


@pytest.mark.parametrize("after", [[ALICE.rules(SITE)], [ALICE.rules()], []], ids=["other", "none", "gone"])
def test_who_may_reach_less_loses_open_tunnels(
    world: World, keeper: KeeperProcess, after: list[TenantRules]
) -> None:
    keeper.obey(ALICE.rules(API), BOB.rules())
    line = opened(world)
    keeper.obey(*after)
    assert not echoes(line)


def test_the_newest_document_counts(keeper: KeeperProcess) -> None:
    keeper.put(ALICE.rules(API), generation=3)
    keeper.put(BOB.rules(), generation=9)
    keeper.put(ALICE.rules(SITE), generation=8)
    wait_for("generation 9", lambda: keeper.state().get("generation") == 9)
    keeper.put(ALICE.rules(API), generation=10)
    wait_for("generation 10", lambda: keeper.state()["generation"] == 10)


def test_half_an_upload_waits_for_its_other_half(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API))
    whole = Rules(2, FLEET, (ALICE.rules(),)).to_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        keeper.upload(file_name(2), whole[:length] + b"\0" * (len(whole) - length))
        time.sleep(0.6)  # two looks of the keeper's, which are to change nothing
        assert keeper.state()["generation"] == 1
    assert served(world)
    keeper.upload(file_name(2), whole)
    wait_for("the whole", lambda: keeper.state()["generation"] == 2)


def bad_documents() -> Iterator[tuple[str, bytes]]:
    good = Rules(2, FLEET, (ALICE.rules(API),)).to_bytes()
    yield "another fleet", Rules(2, "other", ()).to_bytes()
    yield "another generation", Rules(3, FLEET, ()).to_bytes()
    yield "too large", b"x" * (MAX_BYTES + 5)
    yield "other form", resigned(good.replace(b'"fleet"', b' "fleet"'))
    yield "a line of configuration", resigned(good.replace(b"api.github.com", b"a.b\\nhttp_access allow all"))


def resigned(document: bytes) -> bytes:
    import hashlib

    body = document.rsplit(b"\n", 2)[0]
    return body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"


@pytest.mark.parametrize(
    ("what", "data"), list(bad_documents()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_bad_document_changes_nothing_and_says_why(
    world: World, keeper: KeeperProcess, what: str, data: bytes
) -> None:
    keeper.obey(ALICE.rules(API))
    line = opened(world)
    keeper.upload(file_name(2), data)
    wait_for("the refusal", lambda: keeper.state()["refused"] == 2)
    state = keeper.state()
    assert (state["generation"], state["ok"]) == (1, False)
    assert state["problem"]
    assert echoes(line)
    keeper.generation = 2
    keeper.obey(ALICE.rules(API, SITE))  # and a good one mends it
    assert keeper.state()["ok"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400))
def test_no_document_brings_the_keeper_down(world: World, keeper: KeeperProcess, data: bytes) -> None:
    keeper.generation += 1
    keeper.upload(file_name(keeper.generation), resigned(data + b"\nx\n"))
    wait_for("the refusal", lambda: keeper.state().get("refused") == keeper.generation)
    assert keeper.process is not None
    assert keeper.process.poll() is None


def test_squid_serves_as_many_runtimes_as_a_document_may_have(world: World, keeper: KeeperProcess) -> None:
    """Also those whose link is not there; and a name list as long as it may be."""
    hosts = tuple(AllowedHost(f"h{number:02}.example", 443) for number in range(64))
    others = [
        TenantRules(ALICE.runtime.__class__(int=0x1000 + n), f"pt{FLEET}-{n + 16:04x}", f"10.98.{n}.1", f"10.98.{n}.2", hosts)
        for n in range(MAX_TENANTS - 1)
    ]  # fmt: skip
    for other in others:
        world.command("h", "ip", "addr", "add", f"{other.listen}/30", "dev", "lo")
    keeper.obey(ALICE.rules(API), *others)
    wait_for("all are served", lambda: len(keeper.state()["serving"]) == MAX_TENANTS)
    assert fetch(world, ALICE, API) == b"hello\n"
    for other in others:
        world.command("h", "ip", "addr", "del", f"{other.listen}/30", "dev", "lo")
    wait_for("only Alice is", lambda: keeper.state()["serving"] == [str(ALICE.runtime)])


def test_git_clones_through_the_proxy_and_from_nowhere_else(
    world: World, keeper: KeeperProcess, tmp_path: Path
) -> None:
    """A real client in the guest's namespace, with a certificate that only the outside can have."""
    bare, work = world.base / "files" / "acme" / "site.git", tmp_path / "work"
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(work))
    (work / "README").write_text("hello\n")
    git(work, "add", ".")
    git(work, "-c", "user.name=t", "-c", "user.email=t@t.example", "commit", "--quiet", "-m", "one")
    git(tmp_path, "clone", "--quiet", "--bare", str(work), str(bare))
    git(bare, "update-server-info")
    told = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HTTPS_PROXY": f"http://{ALICE.listen}:{PORT}",
        "GIT_SSL_CAINFO": str(world.outside.authority),
    }
    keeper.obey(ALICE.rules(SITE))
    for host, works in ((SITE, True), (API, False)):
        target = tmp_path / f"clone-{host}"
        url = f"https://{host}/acme/site.git"
        done = world.command("a", "git", "clone", "--quiet", url, str(target), env=told)
        assert (done.returncode == 0) is works, done.stderr
        assert (target / "README").exists() is works
    assert "403" in done.stderr
    assert {each.name for each in world.outside.arrivals} == {SITE}


def git(folder: Path, *argv: str) -> None:
    subprocess.run(["git", *argv], cwd=folder, check=True, capture_output=True, timeout=30)


# -- links -----------------------------------------------------------------------------------------------------


def test_a_link_that_comes_later_is_served_when_it_comes(world: World, keeper: KeeperProcess) -> None:
    """A host that starts anew has its keeper before its guests' networks; a deleted network takes none with it."""
    world.link(ALICE, "down")
    try:
        keeper.obey(ALICE.rules(API), BOB.rules(API))
        assert keeper.state()["serving"] == [str(BOB.runtime)]
        assert fetch(world, BOB, API) == b"hello\n"
    finally:
        world.link(ALICE, "up")
        world.command("a", "ip", "route", "replace", "default", "via", ALICE.listen)
    wait_for("Alice is served", lambda: str(ALICE.runtime) in keeper.state()["serving"])
    assert fetch(world, ALICE, API) == b"hello\n"


def test_a_refusal_is_told_until_a_later_document_counts(world: World, keeper: KeeperProcess) -> None:
    """A link that comes or goes changes nothing in it."""
    keeper.obey(ALICE.rules(API), BOB.rules(API))
    keeper.upload(file_name(2), Rules(2, "other", ()).to_bytes())
    wait_for("the refusal", lambda: keeper.state()["refused"] == 2)
    world.link(ALICE, "down")
    try:
        wait_for("Alice's link is gone", lambda: keeper.state()["serving"] == [str(BOB.runtime)])
        assert keeper.state()["problem"] == "the document is for the fleet other"
    finally:
        world.link(ALICE, "up")
        world.command("a", "ip", "route", "replace", "default", "via", ALICE.listen)
    wait_for("Alice is served", lambda: str(ALICE.runtime) in keeper.state()["serving"])
    assert not keeper.state()["ok"]
    keeper.generation = 2
    keeper.obey(ALICE.rules(API))
    assert keeper.state()["problem"] == ""


def test_a_document_that_cannot_be_checked_keeps_nothing_else_from_being_done(
    world: World, make_keeper: Make
) -> None:
    """Squid is started again, and the reason is told for as long as it holds."""
    keeper = make_keeper()
    programs, broken = keeper.run.parent / "bin", keeper.run.parent / "broken"
    programs.mkdir()
    (programs / "squid").write_text(
        f'#!/bin/sh\ncase "$*" in *parse*) test -e {broken} && kill -KILL $$;; esac\nexec /usr/sbin/squid "$@"\n'
    )
    for path in (programs, programs / "squid"):
        path.chmod(0o755)
    keeper.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    keeper.start()
    keeper.obey(ALICE.rules(API))
    broken.touch()
    wanted = keeper.put(ALICE.rules(API, SITE))
    wait_for("it fails", lambda: "did not run to its end" in keeper.state()["problem"])
    before = keeper.squid()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_for("it serves again", lambda: served(world))
    assert keeper.state()["generation"] == 1
    wait_for("it is still told", lambda: "did not run to its end" in keeper.state()["problem"])
    broken.unlink()
    wait_for("the document is obeyed", lambda: keeper.state()["generation"] == wanted)
    assert keeper.state()["ok"]


# -- records ---------------------------------------------------------------------------------------------------


def test_a_tunnel_is_one_record_with_its_bytes_and_no_path(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API))
    (world.base / "files").mkdir(exist_ok=True)
    (world.base / "files" / "big").write_bytes(os.urandom(3_000_000))
    began = time.time()
    assert len(fetch(world, ALICE, API, "/big?secret=path")) == 3_000_000
    record = wait_for("the record", keeper.records)[0]
    assert (record.verdict, record.reason, record.host, record.port) == ("allowed", "", API, 443)
    assert (record.runtime, record.listen) == (ALICE.runtime, ALICE.listen)
    assert 3_000_000 < record.bytes_down < 3_100_000
    assert 300 < record.bytes_up < 20_000
    assert began - 1 < record.at_ms / 1000 < time.time() + 1
    assert len(keeper.records()) == 1
    assert b"secret" not in b"".join(path.read_bytes() for path in keeper.folder.glob("records-*"))


def test_an_allowed_place_that_is_not_there_is_a_record_of_its_own(
    world: World, keeper: KeeperProcess
) -> None:
    from tests.egress.outside import Answer

    world.outside.answers["down.github.com"] = Answer(a=("198.51.100.254",))
    keeper.obey(ALICE.rules("down.github.com"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(world, ALICE, "down.github.com:443").tls(world, "down.github.com")
    record = wait_for("the record", keeper.records)[0]
    assert (record.verdict, record.reason, record.host) == ("allowed", "unreachable", "down.github.com")


def test_records_go_on_in_a_new_file_and_none_is_lost(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API))
    first = keeper.folder / journal.file_name(keeper.state()["records"]["last"])
    for number in range(60):
        assert connect(world, ALICE, f"n{number}.example:443").status == 403
        if number == 20:
            with first.open("ab") as file:  # as good as four mebibytes of lines
                file.write(b"1 1.000 0 - - - - - 0 0 - - - -\n" * (journal.MAX_BYTES // 32 + 1))
    wait_for("the next file is published", lambda: keeper.state()["records"]["last"] == 2)
    size = first.stat().st_size
    assert connect(world, ALICE, "last.example:443").status == 403
    wait_for("all records", lambda: len([r for r in keeper.records() if r.host]) == 61)
    assert first.stat().st_size == size
    assert {r.host for r in keeper.records() if r.host} == {
        *(f"n{n}.example" for n in range(60)),
        "last.example",
    }


def test_the_oldest_files_go(make_keeper: Make) -> None:
    keeper = make_keeper()
    for number in range(1, 100):
        keeper.upload(journal.file_name(number), b"")
        os.chown(keeper.folder / journal.file_name(number), USER, USER)
    keeper.start()
    # It goes on with its own last one, which is empty.
    assert keeper.state()["records"] == {"first": 99 - journal.MAX_FILES + 1, "last": 99}
    assert len(list(keeper.folder.glob("records-*.log"))) == journal.MAX_FILES


def test_the_state_tells_whether_the_hosts_walls_stand(world: World, keeper: KeeperProcess) -> None:
    """All three tables: each is a wall of its own."""
    assert "walls" not in keeper.state()["capabilities"]
    world.command("h", "nft", "--file", str(walls.RULES))
    try:
        wait_for("they are told", lambda: "walls" in keeper.state()["capabilities"])
        world.command("h", "nft", "delete", "table", "arp", "portal_walls")
        wait_for("one is missed", lambda: "walls" not in keeper.state()["capabilities"])
    finally:
        for family in ("bridge", "inet"):
            world.command("h", "nft", "delete", "table", family, "portal_walls")
