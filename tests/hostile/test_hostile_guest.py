"""A tenant who is root in their machine, against host and neighbour: real guests, and packets as evidence.

The guests are booted once, and most attacks are one volley, whose evidence the tests then read one by one.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from deploy.portalctl import walls
from provisioning.driver import naming
from provisioning.driver.storage import GIB
from provisioning.egress.squid import MAX_TUNNELS
from tests.egress.world import API, SITE, wait_for
from tests.hostile import latency, mutants
from tests.hostile.at_proxy import LEADS_ASTRAY, SAID
from tests.hostile.frames import arp, ethernet, udp
from tests.hostile.latency import Latency
from tests.hostile.volley import CONTROL, Evidence, fire
from tests.hostile.where import ATTACKS, IP4, METADATA
from tests.hostile.world import IOPS, WORKSPACE, World

pytestmark = [pytest.mark.guest, pytest.mark.django_db, pytest.mark.timeout(900)]
FRAMES = f"{WORKSPACE}/flood-frames"
TRANSLATOR_MIB = 1024
"""What QEMU may keep of translated code where there is no hardware virtualisation."""


@pytest.fixture(scope="module")
def evidence(world: World) -> Evidence:
    return fire(world)


def test_the_capture_sees_what_may_pass(world: World, evidence: Evidence) -> None:
    """The allowed packet: on the guest's wire, on its bridge, and taken by the host. So would any other be."""
    assert evidence.seen[CONTROL] == {evidence.left, evidence.bridge, "host IPv4 6"}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_arrives(evidence: Evidence, name: str) -> None:
    assert evidence.left in evidence.seen[name], "the frames never left the guest, so nothing was tried"
    assert evidence.arrived(name) == set()


def test_the_host_has_learned_nothing(evidence: Evidence) -> None:
    """No address, route, neighbour or station from any of it."""
    assert evidence.before == evidence.after


def test_every_port_and_place_is_silent(world: World) -> None:
    """All 65,535 ports of the host's end, and the system's own sockets to all that a tenant would like to reach."""
    where = world.where()
    places = {
        "host": where.host,
        "uplink": where.uplink,
        "neighbour": where.peer,
        "its host": where.peer_host,
    }
    places |= {"metadata": METADATA, "private": "10.255.255.254"}
    tcp = {
        f"{name} {port}": ("tcp", address, port)
        for name, address in places.items()
        for port in (22, 80, 5432, 6379, 8443, 16509, *(() if name == "host" else (where.proxy_port,)))
    }
    dns = {f"DNS {each}": ("udp", each, 53) for each in (where.host, where.uplink, "8.8.8.8")}
    asked = json.dumps({"host": where.host, "targets": tcp | dns | {"IPv6": ("tcp", "fe80::1", 22)}})
    # So many new connections at once are refused by another wall, which would hide a hole in this one.
    with mutants.walls_are(mutants.without(walls.RULES.read_text(), "@callers")):
        found = world.attacker.answers("scan.py", asked, seconds=240)
    assert found["ports"] == [where.proxy_port]
    assert found["reached"].pop("IPv6") == "Address family not supported by protocol"
    assert set(found["reached"].values()) == {"silence"}, found["reached"]


def test_new_connections_and_arp_requests_are_bounded(world: World) -> None:
    """4,000 of each within seconds: the host's table of connections and its processor see a fraction."""
    where = world.where()
    asks = [
        ethernet(
            b"\xff" * 6, where.mac, 0x0806, arp(1, (where.mac, where.address), (bytes(6), where.host), b"")
        )
    ]
    calls = [where.segment(where.host, (10000 + number, where.proxy_port), b"") for number in range(4000)]
    world.attacker.put("flood-frames", "\n".join(frame.hex() for frame in [*calls, *asks * 4000]).encode())
    walls.ensure()  # with counters at zero
    began = time.monotonic()
    world.attacker.wait(world.attacker.start("send.py", FRAMES, "1", "0"))
    took = time.monotonic() - began
    dropped = {key: _dropped(key) for key in ("@callers", "@talkers")}
    assert 4000 - 1000 - 50 * took <= dropped["@callers"] < 4000
    assert 4000 - 100 - 20 * took <= dropped["@talkers"] < 4000


def _dropped(key: str) -> int:
    """How many packets the wall with that set has dropped."""
    shown = subprocess.run(
        ["nft", "list", "table", "bridge", "portal_walls"], check=True, capture_output=True, text=True
    )
    (line,) = [line for line in shown.stdout.splitlines() if key in line]
    return int(line.partition("counter packets ")[2].split()[0])


def test_what_goes_past_the_proxy_is_counted(world: World, evidence: Evidence) -> None:
    """The attacker's direct attempts, and not as the neighbour's, who made none."""
    found = wait_for(
        "the counter", lambda: world.keeper.state()["dropped"].get(str(world.attacker.runtime.pk))
    )
    assert found["packets"] > 300
    theirs = world.keeper.state()["dropped"].get(str(world.neighbour.runtime.pk), {"packets": 0})
    assert theirs["packets"] < 10


def test_a_neighbour_clones_through_the_proxy(world: World, tmp_path: Path) -> None:
    """The way that is meant to be open: an ordinary job, the real proxy, a server that plays github.com."""
    outside, worker = world.internet.outside, world.neighbour.worker
    bare = outside.folder / "files/acme/hello.git"
    for line in (
        ("init", "-q", str(tmp_path)),
        ("-C", str(tmp_path), *_NOBODY, "commit", "-q", "--allow-empty", "-m", "well met"),
        ("clone", "-q", "--bare", str(tmp_path), str(bare)),
        ("-C", str(bare), "update-server-info"),
    ):
        subprocess.run(["git", *line], check=True, capture_output=True, timeout=60)
    clone = "GIT_SSL_CAINFO=$PWD/authority.pem git clone -q https://github.com/acme/hello.git cloned && git -C cloned log"
    job = worker.run("sh", "-c", clone)
    assert "well met" in world.neighbour.wait(job)
    assert {(each.name, each.address) for each in outside.arrivals} == {(SITE, "198.51.100.11")}


_NOBODY = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")


@pytest.fixture(scope="module")
def answers(world: World) -> dict[str, tuple[int, bytes]]:
    """The proxy's answers to all that the attacker says to it; nothing else is on its way meanwhile."""
    world.internet.outside.answers.update(LEADS_ASTRAY)
    world.internet.outside.arrivals.clear()
    said = [(name, request.hex(), then.hex()) for name, (request, then, _) in SAID.items()]
    world.attacker.put("said", json.dumps(said).encode())
    where = world.where()
    found = world.attacker.answers(
        "proxy.py", where.host, str(where.proxy_port), f"{WORKSPACE}/said", seconds=300
    )
    return {name: (status, bytes.fromhex(rest)) for name, (status, rest) in found.items()}


@pytest.mark.parametrize("name", SAID)
def test_the_proxy_is_not_talked_round(answers: dict[str, tuple[int, bytes]], name: str) -> None:
    status, rest = answers[name]
    assert status in SAID[name][2]
    assert b"hello" not in rest  # what the outside would say


def test_nothing_of_it_arrived_outside_and_all_of_it_is_recorded(
    world: World, answers: dict[str, tuple[int, bytes]]
) -> None:
    assert world.internet.outside.arrivals == []
    records = [each for each in world.keeper.records() if each.runtime == world.attacker.runtime.pk]
    assert {each.verdict for each in records} == {"refused"}
    assert len(records) >= len([name for name in SAID if name.startswith("CONNECT")])


def test_five_thousand_tunnels(world: World) -> None:
    """Few of them stand, and the neighbour's own requests pass meanwhile."""
    where, worker = world.where(), world.neighbour.worker
    job = world.attacker.start("proxy.py", where.host, str(where.proxy_port), "tunnels", "5000", f"{API}:443")
    world.attacker.worker.says(job, b"begun")
    fetch = (
        "curl -sS --max-time 30 --cacert authority.pem -w %{time_total} -o /dev/null https://api.github.com/"
    )
    took = [float(world.neighbour.wait(worker.run("sh", "-c", fetch))) for _ in range(3)]
    found = json.loads(world.attacker.wait(job).splitlines()[-1])
    print(f"\ntunnels: {found}; the neighbour's requests through the proxy meanwhile: {took} s")  # noqa: T201 - figures
    assert found["tried"] == 5000
    assert 1 <= found["stood"] <= MAX_TUNNELS


@pytest.fixture(scope="module")
def calm(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Calm"]:
    with latency.portal(tmp_path_factory.mktemp("web") / "log") as page:
        found = Calm(world, page)
        print(f"\ncalm: neighbour {found.neighbour}, portal {found.portal}")  # noqa: T201 - figures
        yield found


class Calm:
    """How the neighbour and the portal answer while nobody does any harm."""

    def __init__(self, world: World, page: latency.Ask) -> None:
        self.world, self.page = world, page
        self.neighbour = latency.measured(world.neighbour.health, 15)
        self.portal = latency.measured(page, 30)

    def during(
        self, kind: str, seconds: int, *more: str
    ) -> tuple[dict[str, int], Latency, Latency, "Machine"]:
        """What a flood got, how the others answered meanwhile, and what the machine cost the host at most."""
        attacker, machine = self.world.attacker, Machine(self.world)
        job = attacker.start("flood.py", kind, str(seconds), *more)
        attacker.worker.says(job, b"ready")
        attacker.put("go", b"")
        began = time.monotonic()
        neighbour = latency.measured(self.world.neighbour.health, 30, began + seconds * 0.6)
        portal = latency.measured(self.page, 100, began + seconds * 0.9)
        machine.look()
        got = json.loads(attacker.outlasted(job, seconds + 120).splitlines()[-1])
        machine.look()
        ratios = [
            f"{a.median / b.median:.1f} times"
            for a, b in ((neighbour, self.neighbour), (portal, self.portal))
        ]
        print(f"\n{kind}: {got}; neighbour {neighbour}, {ratios[0]}; portal {portal}, {ratios[1]}; {machine}")  # noqa: T201
        return got, neighbour, portal, machine


class Machine:
    """What the attacker's QEMU takes of the host."""

    def __init__(self, world: World) -> None:
        name = naming.domain_name(world.attacker.runtime.pk)
        self._domain = libvirt.open(world.host.uri).lookupByName(name)
        self._process = Path("/proc") / Path(f"/run/libvirt/qemu/{name}.pid").read_text().strip()
        self._volume = Path(world.host.pool_path) / naming.volume_name(world.attacker.runtime.pk)
        self._first = self._count()
        self._began = time.monotonic()
        self.memory_mib = self.disk_bytes = 0
        self.operations_a_second = 0.0

    def look(self) -> None:
        status = (self._process / "status").read_text()
        self.memory_mib = max(self.memory_mib, int(status.partition("VmRSS:")[2].split()[0]) >> 10)
        self.disk_bytes = max(self.disk_bytes, self._volume.stat().st_blocks * 512)
        self.operations_a_second = (self._count() - self._first) / (time.monotonic() - self._began)

    def _count(self) -> int:
        reads, _, writes, *_rest = self._domain.blockStats("vdb")
        return int(reads + writes)

    def __str__(self) -> str:
        return (
            f"{self.memory_mib} MiB of memory, {self.disk_bytes >> 20} MiB of disk, "
            f"{self.operations_a_second:.0f} operations a second"
        )


STILL_ANSWERS = 10.0
"""Seconds. A sane bound only: two emulated guests share two cores with everything else here."""


def _usable(*found: Latency) -> None:
    for each in found:
        assert each.asked >= 3
        assert each.median < STILL_ANSWERS


def test_a_flood_of_packets(world: World, calm: Calm) -> None:
    where = world.where()
    mixed = [
        where.packet(where.peer, 17, udp((4, 53), b"F" * 900)),
        ethernet(b"\xff" * 6, where.mac, IP4, where.packet("255.255.255.255", 17, udp((4, 67), b"F"))[14:]),
        ethernet(
            b"\xff" * 6, where.mac, 0x0806, arp(1, (where.mac, where.address), (bytes(6), where.host), b"F")
        ),
        *(where.segment(where.host, (port, where.proxy_port), b"F") for port in range(20000, 20400)),
    ]
    world.attacker.put("flood-frames", "\n".join(frame.hex() for frame in mixed).encode())
    got, neighbour, portal, _ = calm.during("packets", 10, FRAMES)
    assert got["frames"] > 1000
    _usable(neighbour, portal)


def test_a_fork_bomb(calm: Calm) -> None:
    got, neighbour, portal, _ = calm.during("forks", 10)
    assert got["children"] > 1
    _usable(neighbour, portal)


def test_all_memory_without_a_balloon(world: World, calm: Calm) -> None:
    """The guest ignores the host's wishes; its memory was never more than the plan's."""
    got, neighbour, portal, machine = calm.during("memory", 12)
    assert got["balloons"] == 1
    assert machine.memory_mib < world.attacker.runtime.memory_mib + 512 + TRANSLATOR_MIB
    _usable(neighbour, portal)


def test_a_full_disk(world: World, calm: Calm) -> None:
    """The volume fills, and takes what it was promised; the pool of the host loses no more."""
    got, neighbour, portal, machine = calm.during("disk", 45)
    assert got["full"] == 1
    assert machine.disk_bytes < world.attacker.runtime.disk_gib * GIB * 1.02
    _usable(neighbour, portal)


def test_more_disk_operations_than_the_plan_has(calm: Calm) -> None:
    got, neighbour, portal, machine = calm.during("operations", 10)
    assert got["operations"] > IOPS  # it tried
    assert machine.operations_a_second < IOPS * 1.15
    _usable(neighbour, portal)


def test_the_neighbour_is_unharmed(world: World) -> None:
    """After all of it: its machine answers, and does its work."""
    assert world.neighbour.health() < STILL_ANSWERS
    assert world.neighbour.worker.ended("true") == ("succeeded", None, 0, None)
