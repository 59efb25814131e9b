"""The keeper on this machine itself, with a namespace for a guest: what tests with real guests stand on."""

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.egress.on_host import HostWorld, host_world, run
from tests.egress.world import ALICE, API, EVIL, KeeperProcess, connect, fetch


@pytest.fixture
def world() -> Iterator[HostWorld]:
    with host_world() as made:
        yield made


def test_a_guest_of_this_machine_gets_out_by_the_keeper_and_no_other_way(world: HostWorld) -> None:
    space, bridge = world.space("a"), f"{world.prefix}b"
    keeper = KeeperProcess.fresh(world)
    try:
        run("ip", "netns", "add", space)
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "link", "add", ALICE.tap, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "link", "set", ALICE.tap, "master", bridge, "up")
        run("ip", "link", "set", bridge, "up")
        run("ip", "addr", "add", f"{ALICE.listen}/30", "dev", bridge)
        run("ip", "-n", space, "addr", "add", f"{ALICE.address}/30", "dev", "eth0")
        run("ip", "-n", space, "link", "set", "eth0", "up")
        keeper.start()
        keeper.obey(ALICE.rules(API))
        assert fetch(world, ALICE, API) == b"hello\n"
        assert connect(world, ALICE, f"{EVIL}:443").status == 403
    finally:
        keeper.stop()
        world.clear_walls()
        for device in (ALICE.tap, bridge):
            with contextlib.suppress(subprocess.CalledProcessError):
                run("ip", "link", "del", device)
        subprocess.run(["ip", "netns", "del", space], check=False)
    assert (
        "egress_world"
        not in subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    )
