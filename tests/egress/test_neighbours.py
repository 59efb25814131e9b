"""A guest against its neighbours and against the wall: other ports and addresses, floods, ways past the proxy."""

import contextlib
import socket
import sys
import threading
import time

import pytest

from provisioning.egress.squid import MAX_TUNNELS
from tests.egress.world import (
    ALICE,
    API,
    BOB,
    EVIL,
    METADATA,
    PORT,
    PRIVATE,
    USER,
    KeeperProcess,
    World,
    connect,
    fetch,
    wait_for,
)


@pytest.fixture
def keeper(attacked: KeeperProcess) -> KeeperProcess:
    return attacked


# -- tenants against each other --------------------------------------------------------------------------------


def test_a_neighbours_port_or_address_is_of_no_use(world: World, keeper: KeeperProcess) -> None:
    """Alice asks Bob's proxy port, from her own address, and from Bob's."""
    assert fetch(world, BOB, EVIL) == b"hello\n"
    world.outside.arrivals.clear()
    for name in (EVIL, API):
        assert connect(world, ALICE, f"{name}:443", proxy=BOB.listen).status == 403
    assert connect(world, BOB, f"{API}:443", proxy=ALICE.listen).status == 403
    assert world.command("a", "ip", "addr", "add", f"{BOB.address}/32", "dev", "lo").returncode == 0
    try:
        line = world.socket("a")
        line.settimeout(2)
        line.bind((BOB.address, 0))
        with pytest.raises(OSError, match="timed out"):  # the answer goes to the real Bob
            line.connect((BOB.listen, PORT))
    finally:
        world.command("a", "ip", "addr", "del", f"{BOB.address}/32", "dev", "lo")
    assert world.outside.arrivals == []


def test_five_thousand_tunnels_of_one_guest_leave_the_other_alone(
    world: World, keeper: KeeperProcess
) -> None:
    """A guest gets so many connections and no more; the neighbour's take no longer than a second."""
    open_ones: list[socket.socket] = []
    before = time.monotonic()
    for _ in range(5000):
        line = world.socket("a") if not open_ones else _another(world)
        line.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            line.connect((ALICE.listen, PORT))
        open_ones.append(line)
    taken = wait_for("Squid took some", lambda: _established(world))
    took = []
    for _ in range(20):
        began = time.monotonic()
        assert fetch(world, BOB, EVIL) == b"hello\n"
        took.append(time.monotonic() - began)
    assert _established(world) <= MAX_TUNNELS
    assert max(took) < 2.0, took
    for line in open_ones:
        line.close()
    assert taken
    assert time.monotonic() - before < 60
    wait_for("Alice is served again", lambda: connect(world, ALICE, f"{API}:443").status == 200)


_sockets: list[socket.socket] = []


def _another(world: World) -> socket.socket:
    """Many sockets of Alice's at once; entering the namespace for each would take long."""
    if not _sockets:
        _sockets.extend(world.inside("a", lambda: [socket.socket() for _ in range(5000)]))
    return _sockets.pop()


def _established(world: World) -> int:
    """Connections that Squid holds of Alice's."""
    answer = world.command(
        "h", "ss", "-Htnp", "state", "established", "src", ALICE.listen, "sport", "=", f":{PORT}"
    )
    return sum("squid" in line for line in answer.stdout.splitlines())


def test_slow_requests_end_and_the_neighbour_does_not_wait(world: World, keeper: KeeperProcess) -> None:
    lines = world.inside("a", lambda: [socket.create_connection((ALICE.listen, PORT)) for _ in range(100)])
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.5):
            for line in lines:
                with contextlib.suppress(OSError):
                    line.send(b"X")

    threading.Thread(target=drip, daemon=True).start()
    try:
        began = time.monotonic()
        assert fetch(world, BOB, EVIL) == b"hello\n"
        assert time.monotonic() - began < 2
        lines[0].settimeout(25)
        with contextlib.suppress(ConnectionError):
            while lines[0].recv(4096):
                pass
        assert time.monotonic() - began < 25
    finally:
        stop.set()
        for line in lines:
            line.close()


# -- past the proxy --------------------------------------------------------------------------------------------


def test_what_goes_past_the_proxy_goes_nowhere_and_is_counted(world: World, keeper: KeeperProcess) -> None:
    def dropped() -> int:
        return int(keeper.state()["dropped"].get(str(ALICE.runtime), {}).get("packets", 0))

    before, bobs = dropped(), keeper.state()["dropped"][str(BOB.runtime)]
    for address in ("198.51.100.10", PRIVATE, METADATA, "8.8.8.8"):
        line = world.socket("a", kind=socket.SOCK_DGRAM)
        line.sendto(b"x" * 100, (address, 443))
    line = world.socket("a")
    line.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        line.connect(("198.51.100.10", 443))
    wait_for("they are counted", lambda: dropped() >= before + 5)
    assert keeper.state()["dropped"][str(BOB.runtime)] == bobs
    assert world.outside.arrivals == []


@pytest.mark.parametrize("address", [PRIVATE, METADATA])
def test_the_wall_stops_what_squid_would_not(world: World, keeper: KeeperProcess, address: str) -> None:
    """The proxy's user cannot open a connection to a forbidden range; another user can, so there is a way."""
    attempt = [sys.executable, "-c", f"import socket; socket.create_connection(('{address}', 443), 5)"]
    own = ["setpriv", "--reuid", str(USER), "--clear-groups"]
    before = keeper.state()["walled"]["packets"]
    said = world.command("h", *own, *attempt)
    assert "ConnectionRefusedError" in said.stderr or "No route" in said.stderr, said.stderr
    assert world.outside.arrivals == []
    wait_for("it is counted", lambda: keeper.state()["walled"]["packets"] > before)
    assert world.command("h", *attempt).returncode == 0
    wait_for("the positive control arrives", lambda: world.outside.arrivals)


def test_the_keepers_own_port_gives_nothing(world: World, keeper: KeeperProcess) -> None:
    """Whoever is on the host may ask it; it answers a refusal."""
    port = next(
        line.split()[1].rpartition(":")[2]
        for line in (keeper.run / "squid.conf").read_text().splitlines()
        if line.endswith("name=keeper")
    )
    for request in ("GET http://egress/squid-internal-mgr/info", f"CONNECT {API}:443"):
        script = (
            f"import socket; s=socket.create_connection(('127.0.0.1',{port}),5);"
            f"s.sendall(b'{request} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(99)[:12])"
        )
        assert "403" in world.command("h", sys.executable, "-c", script).stdout
    assert world.outside.arrivals == []
