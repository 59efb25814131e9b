"""The keeper's own packet filter: a wall behind Squid, and a count of what guests send past it. Pure.

**The wall.** Squid checks a name's addresses, then connects. Should they change in between, the kernel
refuses: nothing that the keeper's user owns opens a connection to a forbidden range, or by IPv6.

**The count.** What a guest sends by IPv4 that is neither to its proxy nor an answer of its agent goes
nowhere, by libvirt's filter; before that filter sees it, it is counted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard
from uuid import UUID

from provisioning.egress.ranges import FORBIDDEN_V4
from provisioning.egress.rules import Rules

WALLED = "walled"
"""The counter of what the wall refused."""
_COUNTS = 1 << 63
KEEPERS_MARK = 0x65677273
"""On the keeper's own connections to Squid, which cannot set it: that takes the keeper's right."""


@dataclass(frozen=True)
class Count:
    """Packets and their bytes."""

    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Wall:
    """What the keeper knows of its own host."""

    fleet: str
    uid: int
    """The Unix user of keeper and proxy."""
    nameservers: tuple[str, ...]
    proxy_port: int
    agent_port: int

    @property
    def table(self) -> str:
        return f"egress_{self.fleet}"


def render(wall: Wall, rules: Rules, counted: Mapping[str, Count]) -> str:
    """A script for ``nft -f``: replaces both tables in one step; counters go on from ``counted``."""
    return "".join(
        (
            _anew("inet", wall.table, _way_out(wall, counted.get(WALLED, Count()))),
            _anew("bridge", wall.table, _past_the_proxy(wall, rules, counted)),
        )
    )


def remove_count(wall: Wall) -> str:
    """A script that takes the count away.

    The wall stays for what Squid may leave running. It binds its user only; the next keeper replaces it.
    """
    return f"add table bridge {wall.table}\ndelete table bridge {wall.table}\n"


def counts(listing: str) -> dict[str, Count]:
    """The named counters in the answer of ``nft -j list counters table …``.

    Raises:
        ValueError: not such an answer.
    """
    found = json.loads(listing)["nftables"]
    counters = (each["counter"] for each in found if "counter" in each)
    return {each["name"]: Count(int(each["packets"]), int(each["bytes"])) for each in counters}


def counts_told(state: Mapping[str, Any]) -> dict[str, Count]:
    """The same counters as an earlier keeper's state has them, but for what no kernel could have told."""
    dropped = state.get("dropped")
    told = (
        {f"r_{name.replace('-', '')}": each for name, each in dropped.items()} if _is_table(dropped) else {}
    )
    told[WALLED] = state.get("walled")
    return {
        name: Count(each["packets"], each["bytes"])
        for name, each in told.items()
        if _is_table(each) and all(_is_number(each.get(what)) for what in ("packets", "bytes"))
    }


def counter(runtime: UUID) -> str:
    """The name of a runtime's counter."""
    return f"r_{runtime.hex}"


def runtime_of(name: str) -> UUID | None:
    """The runtime whose counter has that name, or None."""
    return UUID(name[2:]) if name.startswith("r_") and len(name) == 34 else None


def _is_table(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < _COUNTS


def _anew(family: str, table: str, body: str) -> str:
    return f"add table {family} {table}\ndelete table {family} {table}\ntable {family} {table} {{\n{body}}}\n"


def _way_out(wall: Wall, walled: Count) -> str:
    """What opens a connection is judged, and each datagram. Nothing in it is of one fleet only but the name
    servers: the user may have another fleet's keeper on this machine too, and each table judges both.
    """
    servers = ", ".join(wall.nameservers)
    refuse = f"counter name {WALLED} reject"
    return f"""\
    set forbidden {{ type ipv4_addr; flags interval; elements = {{ {", ".join(FORBIDDEN_V4)} }}; }}
    {_counter(WALLED, walled)}
    chain output {{
        type filter hook output priority 0; policy accept;
        meta skuid {wall.uid} jump way_out
    }}
    chain way_out {{
        tcp flags & (syn | ack) != syn accept
        meta mark {KEEPERS_MARK} accept
        ip daddr {{ {servers} }} meta l4proto {{ tcp, udp }} th dport 53 accept
        meta nfproto ipv6 {refuse}
        ip daddr @forbidden {refuse}
    }}
"""


def _past_the_proxy(wall: Wall, rules: Rules, counted: Mapping[str, Count]) -> str:
    names = {each.runtime: counter(each.runtime) for each in rules.tenants}
    declared = [_counter(name, counted.get(name, Count())) for name in names.values()]
    lines = ["type filter hook prerouting priority -400; policy accept;"]
    for each in rules.tenants:
        here = f'iifname "{each.tap}" ether type ip'
        lines += [
            f"{here} ip daddr {each.listen} tcp dport {wall.proxy_port} accept",
            f"{here} ip daddr {each.listen} tcp sport {wall.agent_port} accept",
            f"{here} counter name {names[each.runtime]}",
        ]
    chain = "".join(f"        {line}\n" for line in lines)
    return "".join(f"    {line}\n" for line in declared) + f"    chain past_the_proxy {{\n{chain}    }}\n"


def _counter(name: str, count: Count) -> str:
    return f"counter {name} {{ packets {count.packets} bytes {count.bytes} }}"
