"""Every kind of accident that keeper and Squid may meet, real, in a world of namespaces."""

import contextlib
import dataclasses
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from provisioning.egress import journal
from provisioning.egress.rules import Rules, file_name
from tests.egress.world import (
    AGENT_PORT,
    ALICE,
    API,
    BOB,
    EVIL,
    FLEET,
    PRIVATE,
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


def test_squid_that_ends_is_started_again(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API))
    seen = {keeper.squid(), None}
    for _ in range(2):
        now = keeper.squid()
        assert now is not None
        os.kill(now, signal.SIGKILL)
        wait_for("another Squid", lambda: keeper.squid() not in seen)
        seen.add(keeper.squid())
        wait_for("it serves", lambda: served(world))


def test_a_keeper_that_is_killed_takes_squid_with_it(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API))
    keeper.stop(signal.SIGKILL)
    wait_for("Squid is gone", lambda: keeper.squid() is None)
    assert not served(world)
    keeper.start()  # and the next obeys the same, with no worker at hand
    wait_for("it serves", lambda: served(world))
    assert keeper.state()["generation"] == 1


def test_a_document_of_squids_user_is_none(world: World, keeper: KeeperProcess) -> None:
    """Who once was Squid would rule for ever by a high number: in the folder, and as what the keeper kept."""
    keeper.obey(ALICE.rules(API))
    forged = Rules(9_999_999_999, FLEET, (ALICE.rules(API, EVIL),)).to_bytes()
    for place in (keeper.folder / file_name(9_999_999_999), keeper.run / "rules.json"):
        place.write_bytes(forged)
        os.chown(place, USER, USER)
    keeper.obey(ALICE.rules(API, SITE))
    (keeper.run / "rules.json").write_bytes(forged)
    keeper.stop()
    keeper.start()
    wait_for("the worker's is in force", lambda: keeper.state()["generation"] == keeper.generation == 2)
    assert served(world)
    assert connect(world, ALICE, f"{EVIL}:443").status == 403


@pytest.mark.parametrize("there", [True, False])
def test_what_was_kept_counts_only_beside_what_the_worker_sent(
    world: World, keeper: KeeperProcess, there: bool
) -> None:
    """A forged one may bear the right number; and where nothing was sent nobody is served."""
    keeper.obey(ALICE.rules(API))
    keeper.stop()
    (keeper.run / "rules.json").write_bytes(Rules(1, FLEET, (ALICE.rules(API, EVIL),)).to_bytes())
    if not there:
        (keeper.folder / file_name(1)).unlink()
    keeper.start()
    if there:
        wait_for("the worker's is in force", lambda: keeper.state()["generation"] == 1)
        assert connect(world, ALICE, f"{EVIL}:443").status == 403
        assert served(world)
    else:
        assert (keeper.squid(), keeper.state()["generation"]) == (None, 0)


@pytest.mark.parametrize("moment", range(0, 700, 100))
def test_a_keeper_killed_at_any_moment_of_a_change_leaves_old_or_new(
    world: World, make_keeper: Make, moment: int
) -> None:
    """Killed so many milliseconds after a document came; the next keeper brings the new one into force."""
    keeper = make_keeper()
    keeper.start()
    keeper.obey(ALICE.rules(API))
    keeper.put(ALICE.rules(SITE))
    time.sleep(moment / 1000)
    keeper.stop(signal.SIGKILL)
    wait_for("Squid is gone", lambda: keeper.squid() is None)
    keeper.start()
    wait_for("the new rules", lambda: keeper.state()["generation"] == 2)
    assert fetch(world, ALICE, SITE) == b"hello\n"
    assert connect(world, ALICE, f"{API}:443").status == 403
    keeper.stop()
    assert world.command("h", "nft", "list", "tables").stdout == f"table inet egress_{FLEET}\n"


def test_counters_survive_keeper_and_kernel(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API))
    world.socket("a", kind=socket.SOCK_DGRAM).sendto(b"x", ("8.8.8.8", 53))

    def counted() -> int:
        return int(keeper.state()["dropped"][str(ALICE.runtime)]["packets"])

    first = wait_for("it is counted", counted)
    keeper.obey(ALICE.rules(API, SITE))
    assert counted() == first
    keeper.stop()  # takes the kernel's counters with it, as a restart of the machine would
    keeper.start()
    assert counted() == first


def test_what_leaves_from_the_agents_port_is_counted_unless_it_goes_to_the_host(
    world: World, keeper: KeeperProcess
) -> None:
    keeper.obey(ALICE.rules(API))

    def counted() -> int:
        return int(keeper.state()["dropped"][str(ALICE.runtime)]["packets"])

    for number, to in enumerate((ALICE.listen, "8.8.8.8")):
        line = world.socket("a")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind((ALICE.address, AGENT_PORT))
        line.setblocking(False)
        line.connect_ex((to, 443))
        if number:
            wait_for("it is counted", counted)
        line.close()
        keeper.obey(ALICE.rules(API, *[SITE][number:]))  # and the counters are told
        assert bool(counted()) is bool(number)


def test_a_full_disk_lets_nothing_out_unrecorded_and_mends_itself(world: World, make_keeper: Make) -> None:
    keeper = make_keeper()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size=256k,uid={USER},mode=750", "none", keeper.folder], check=True
    )
    try:
        keeper.start()
        keeper.obey(ALICE.rules(API))
        assert fetch(world, ALICE, API) == b"hello\n"
        filler = keeper.folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 512)
        before = keeper.squid()
        with contextlib.suppress(OSError, ssl.SSLError, AssertionError):
            for _ in range(40):
                fetch(world, ALICE, API)
        wait_for("Squid ended", lambda: keeper.squid() != before)
        filler.unlink()
        wait_for("it serves again", lambda: served(world))
        wait_for("all is well", lambda: keeper.state()["ok"])
    finally:
        keeper.stop()
        subprocess.run(["umount", keeper.folder], check=True)


def test_a_keeper_that_starts_often_does_not_use_up_the_files(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API))
    assert connect(world, ALICE, "first.example:443").status == 403
    wait_for("a record", keeper.records)
    for _ in range(2):
        keeper.stop()
        keeper.start()
        assert keeper.state()["records"] == {"first": 1, "last": 1}
    keeper.stop()
    with (keeper.folder / journal.file_name(1)).open("ab") as file:
        file.write(b"1 17")  # as Squid leaves it when it is killed
    keeper.start()
    assert keeper.state()["records"] == {"first": 1, "last": 2}
    assert connect(world, ALICE, "second.example:443").status == 403
    wait_for(
        "both records",
        lambda: [each.host for each in keeper.records()] == ["first.example", "second.example"],
    )


def test_keepers_of_two_fleets_do_not_wall_each_other_in(world: World, make_keeper: Make) -> None:
    """They share a user, so each fleet's packet filter judges both."""
    one, two = make_keeper(), make_keeper(PORTAL_FLEET_ID="other")
    for each in (one, two):
        each.start()
    one.obey(ALICE.rules(API))
    bobs = BOB.rules(API)
    wanted = two.put(dataclasses.replace(bobs, tap="ptother-0001"), fleet="other")
    wait_for("the other fleet's rules", lambda: two.state()["generation"] == wanted)
    assert fetch(world, ALICE, API) == fetch(world, BOB, API) == b"hello\n"
    assert one.state()["walled"] == two.state()["walled"] == {"packets": 0, "bytes": 0}


def test_two_keepers_never_share_a_folder(world: World, keeper: KeeperProcess) -> None:
    twin = KeeperProcess(world, keeper.folder, keeper.run)
    twin.start(ready=False)
    assert twin.process is not None
    assert twin.process.wait(15) == 1
    assert "another egress keeper" in keeper.log()


def test_a_keeper_without_rights_does_not_start(world: World, make_keeper: Make) -> None:
    """Without its packet filter there would be no wall behind Squid."""
    keeper = make_keeper()
    keeper.start(capabilities=False, ready=False)
    assert keeper.process is not None
    assert keeper.process.wait(15) == 1
    assert "nft" in keeper.log()
    assert keeper.squid() is None


def test_squid_has_none_of_the_keepers_rights(world: World, keeper: KeeperProcess) -> None:
    keeper.obey(ALICE.rules(API))
    status = dict(
        line.split(":\t", 1)
        for line in open(f"/proc/{keeper.squid()}/status").read().splitlines()  # noqa: SIM115, PTH123
        if ":\t" in line
    )
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split() == [str(USER)] * 4


def test_nothing_but_its_wall_is_left_when_it_ends(world: World, keeper: KeeperProcess) -> None:
    """Squid's user may end the keeper, whose user it is too; what it left running must not get out then."""
    keeper.obey(ALICE.rules(API))
    assert f"bridge egress_{FLEET}" in world.command("h", "nft", "list", "tables").stdout
    assert reaches(world, PRIVATE) == "ConnectionRefusedError"
    keeper.stop()
    assert keeper.squid() is None
    assert world.command("h", "nft", "list", "tables").stdout == f"table inet egress_{FLEET}\n"
    assert reaches(world, PRIVATE) == "ConnectionRefusedError"
    world.clear_walls()
    assert reaches(world, PRIVATE) == "reached"


def reaches(world: World, address: str) -> str:
    """What becomes of a connection that a process of the keeper's user makes, with none of its rights."""
    script = (
        "import socket, sys\n"
        "try: socket.create_connection((sys.argv[1], 443), 5)\n"
        "except OSError as error: print(type(error).__name__)\n"
        "else: print('reached')"
    )
    as_user = [
        "setpriv",
        "--reuid",
        str(USER),
        "--regid",
        str(USER),
        "--clear-groups",
        "--inh-caps=-all",
        "--",
    ]
    return world.command("h", *as_user, sys.executable, "-c", script, address).stdout.strip()
