"""One volley of frames, and the evidence: where each was seen, and what the host has learned from them."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any, Protocol

from tests.hostile import attacks  # noqa: F401 - fills the list
from tests.hostile.capture import Capture, Markers
from tests.hostile.where import ATTACKS, Where, controls

CONTROL = "(a connection to the proxy's port)"
STOPPED_LATER = {"from the agent's port to the host's end"}
"""The Ethernet rules know no connections, so these cross the bridge; the host's stack must not get them."""


@dataclass(frozen=True)
class Evidence:
    """Of one volley."""

    seen: dict[str, set[str]]
    left: str
    """The place at which a frame is seen that has left the guest."""
    bridge: str
    """The place at which one is seen that the host's stack has still to judge."""
    before: Any
    after: Any
    """What the host knows: its IPv6 addresses and routes, and its neighbours' link addresses."""

    def arrived(self, name: str) -> set[str]:
        """Every place but the attacker's own wire at which a packet of this attack was seen."""
        return self.seen.get(name, set()) - {self.left, *([self.bridge] if name in STOPPED_LATER else ())}

    def escaped(self) -> set[str]:
        """Attacks of which a packet arrived, and what the host should not have learned."""
        found = {name for name in self.seen if name != CONTROL and self.arrived(name)}
        return found | ({"(the host's own tables)"} if self.before != self.after else set())


class Attacker(Protocol):
    """Who can write frames to a guest's wire."""

    @property
    def tap(self) -> str: ...
    @property
    def bridge(self) -> str: ...
    def where(self) -> Where: ...
    def send(self, written: list[bytes]) -> None: ...


def fire(attacker: Attacker, names: list[str] | None = None) -> Evidence:
    """Let the guest write the frames of these attacks, and one that is allowed, while everything is watched."""
    names = list(ATTACKS) if names is None else names
    markers, where = Markers([CONTROL, *names]), attacker.where()
    sent = controls(where, markers.of(CONTROL))
    for name in names:
        sent += ATTACKS[name](where, markers.of(name))
    before = knowledge(attacker)
    with Capture(markers) as capture:
        attacker.send(sent)
    left, bridge = f"{attacker.tap} in", f"{attacker.bridge} in"
    return Evidence(dict(capture.seen), left, bridge, before, knowledge(attacker))


def knowledge(attacker: Attacker) -> Any:
    """What a guest's packets could teach the host: nothing of other guests, which come and go beside this."""
    own = {attacker.tap, attacker.bridge}
    return {
        "addresses": sorted(
            (each["ifname"], its["local"])
            for each in _shown("-6", "address")
            if each["ifname"] in own
            for its in each.get("addr_info", ())
        ),
        "routes": sorted((each["dst"], each["dev"]) for each in _shown("-6", "route") if each["dev"] in own),
        "neighbours": sorted(
            (each["dst"], each["dev"], each["lladdr"])
            for each in _shown("neighbour")
            if "lladdr" in each and each["dev"] in own
        ),
        "stations": sorted(
            (each["mac"], each.get("vlan", 0))
            for each in _shown("fdb", "show", "br", attacker.bridge, tool="bridge")
        ),
    }


def _shown(*what: str, tool: str = "ip") -> Any:
    done = subprocess.run([tool, "-json", *what], check=True, capture_output=True, text=True, timeout=20)
    return json.loads(done.stdout or "[]")
