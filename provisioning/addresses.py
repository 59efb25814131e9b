"""Addresses of runtimes: one /30 and one MAC each, chosen before the first libvirt call."""

import ipaddress
import secrets
from dataclasses import dataclass

from django.conf import settings

PREFIX = 30


class PoolExhausted(Exception):
    """No /30 is left. Enlarge PORTAL_NETWORK_POOL."""


@dataclass(frozen=True)
class Link:
    """The two ends of a runtime's /30."""

    host_address: str
    guest_address: str
    prefix: int = PREFIX


def link(index: int) -> Link:
    """The addresses of the ``index``-th /30 of the pool."""
    pool = ipaddress.ip_network(settings.NETWORK_POOL)
    base = int(pool.network_address) + 4 * index
    return Link(str(ipaddress.ip_address(base + 1)), str(ipaddress.ip_address(base + 2)))


def free_index(taken: set[int]) -> int:
    """The lowest index that nobody holds.

    Raises:
        PoolExhausted: every /30 of the pool is taken.
    """
    size = ipaddress.ip_network(settings.NETWORK_POOL).num_addresses // 4
    for index in range(size):
        if index not in taken:
            return index
    raise PoolExhausted(f"All {size} networks of {settings.NETWORK_POOL} are taken.")


def new_mac() -> str:
    """A random MAC in QEMU's locally used range 52:54:00."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
