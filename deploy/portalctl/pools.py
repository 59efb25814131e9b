"""The IPv4 network that an installation cuts its tenants' /30s from: one that this machine does not use."""

import hashlib
import ipaddress
import os
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path

from deploy.portalctl.terminal import Stop

FIRST = 83
"""The portal's own default is 10.83.0.0/16 (docs/settings.md)."""
_CANDIDATES = [IPv4Network(f"10.{second}.0.0/16") for second in range(FIRST, 256)]
_ROUTES = Path("/proc/net/route")
_NAME = "network-pool"


def kept(folder: Path, routes: Path = _ROUTES) -> str:
    """The pool of the installation in ``folder``, kept once written: guests' addresses follow from it.

    Raises:
        Stop: this machine uses every candidate.
    """
    path = folder / _NAME
    if not path.exists():
        older = (folder / "env" / "manage.env").exists()  # made before this file was kept, with the default
        found = str(_CANDIDATES[0]) if older else free(routes=routes)
        path.write_text((os.environ.get("PORTAL_NETWORK_POOL") or found) + "\n")
    return path.read_text().strip()


def passing(seed: str, routes: Path = _ROUTES) -> str:
    """A pool for one run of the tests.

    It starts to look at a place that follows from ``seed``, so that two runs side by side, neither of which
    has a bridge yet, do not choose the same one.

    Raises:
        Stop: this machine uses every candidate.
    """
    others = _CANDIDATES[1:]  # never the running portal's first choice
    turn = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") % len(others)
    return free(others[turn:] + others[:turn], routes)


def free(candidates: Iterable[IPv4Network] = tuple(_CANDIDATES), routes: Path = _ROUTES) -> str:
    """The first candidate that no route of this machine touches.

    Raises:
        Stop: there is none.
    """
    used = in_use(routes.read_text())
    for candidate in candidates:
        if not any(candidate.overlaps(route) for route in used):
            return str(candidate)
    raise Stop(
        "this machine has routes into every network from 10.83.0.0/16 to 10.255.0.0/16",
        todo="name a free one: `make up` with PORTAL_NETWORK_POOL in the environment",
    )


def in_use(table: str) -> list[IPv4Network]:
    """The networks of Linux's /proc/net/route (hexadecimal, least significant byte first), default aside."""
    rows = [line.split() for line in table.splitlines()[1:]]
    networks = (
        IPv4Network((_address(row[1]), str(ipaddress.IPv4Address(_address(row[7])))), strict=False)
        for row in rows
        if len(row) > 7
    )
    return [network for network in networks if network.prefixlen]


def _address(hexadecimal: str) -> int:
    return int.from_bytes(bytes.fromhex(hexadecimal), "little")
