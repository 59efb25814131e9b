"""What the egress proxy costs: the same connections with and without it, in a world of network namespaces."""

import os
import ssl
import time
from collections.abc import Callable
from statistics import median, quantiles

from tests.egress.world import ALICE, API, BOB, SITE, KeeperProcess, World, connect, world

CONNECTIONS = 100
CHANGES = 10


def measure() -> dict[str, float]:
    """Milliseconds for a connection with its TLS handshake, and for a change until it is in force.

    Empty unless this runs as root, which network namespaces need.
    """
    if os.geteuid() != 0:
        return {}
    with world() as made:
        keeper = KeeperProcess.fresh(made)
        keeper.start()
        try:
            keeper.obey(ALICE.rules(API), BOB.rules())
            return _connections(made) | _changes(keeper)
        finally:
            keeper.stop()


def _connections(made: World) -> dict[str, float]:
    _open_the_direct_way(made)
    context = ssl.create_default_context(cafile=str(made.outside.authority))

    def direct() -> None:
        line = made.socket("a")
        line.connect(("198.51.100.10", 443))
        context.wrap_socket(line, server_hostname=API).close()

    def proxied() -> None:
        connect(made, ALICE, f"{API}:443").tls(made, API).close()

    return _told("direct connection", _timed(direct)) | _told("connection by the proxy", _timed(proxied))


def _changes(keeper: KeeperProcess) -> dict[str, float]:
    took = []
    for number in range(CHANGES):
        hosts = (API, SITE) if number % 2 else (API,)
        began = time.perf_counter()
        keeper.obey(ALICE.rules(*hosts), BOB.rules())
        took.append(1000 * (time.perf_counter() - began))
    return _told("change in force", took)


def _timed(act: Callable[[], None]) -> list[float]:
    took = []
    for _ in range(CONNECTIONS):
        began = time.perf_counter()
        act()
        took.append(1000 * (time.perf_counter() - began))
    return took


def _told(name: str, took: list[float]) -> dict[str, float]:
    return {f"{name} P50 ms": median(took), f"{name} P95 ms": quantiles(took, n=20)[-1]}


def _open_the_direct_way(made: World) -> None:
    """A way that no guest has: routed by the host, past the proxy."""
    made.command("h", "sysctl", "-w", "net.ipv4.ip_forward=1")
    made.command("i", "ip", "route", "add", "10.99.0.0/24", "via", "198.51.100.254")
