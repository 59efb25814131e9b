"""The machine itself: what libvirt shows of it against what it was told. Pure."""

import re
from dataclasses import dataclass

from provisioning.drift.findings import Finding, finding
from provisioning.driver.likeness import Difference, differences
from provisioning.driver.marks import parse
from provisioning.driver.types import Power, Shown

_DISK, _NIC = r"/domain/devices/disk", r"/domain/devices/interface"
PLACES: tuple[tuple[str, str], ...] = (
    (r"/domain/devices/filesystem.*", "shared_files"),
    (rf"{_DISK}[^/]*/iotune.*", "limits"),
    (rf"{_DISK}.*", "disk"),
    (rf"{_NIC}[^/]*/link.*", "link"),
    (rf"{_NIC}[^/]*/bandwidth.*", "limits"),
    (rf"{_NIC}[^/]*/filterref.*", "filter_reference"),
    (rf"{_NIC}.*", "interface"),
    (r"/domain/(memory|currentMemory|vcpu|memtune|cputune)([/@].*)?", "limits"),
    (r"/domain/devices/emulator.*", "definition"),
    (r"/domain/devices/.*", "device"),
    (r".*", "definition"),
)
"""Which kind of finding a difference is, by its path; the first that fits."""

_GUARDED = frozenset({"disk", "filter_reference", "shared_files"})
"""Kinds that are grave even where nobody noted what a host was told."""
HARMLESS_TAINTS = ("host-cpu", "host CPU passthrough", "cpu passthrough")
"""KVM's way to run at full speed."""
_TAINTED = "tainted: "
"""How libvirt begins each; both this and what follows are translated into the language of its environment."""
_KNOWN_TAINTS = (
    *HARMLESS_TAINTS,
    *(
        "configuration parameters",
        "monitor control",
        "elevated privileges",
        "running as root",
        "opaque shell",
    ),
    *("disk format probing", "externally launched", "hook script", "cdrom passthrough", "device tree blob"),
    *("guest agent control", "feature autodetection", "deprecated configuration", "device configuration"),
)


@dataclass(frozen=True)
class Wishes:
    """Our XML of one object: as a host was last told it, if that was noted; and as it would be told today."""

    today: str
    told: str = ""

    def unlike(self, shown: str, bridge: str = "") -> list[Difference]:
        """What is neither as it was told nor as it would be told today."""
        now = differences(self.today, shown, bridge=bridge)
        if not self.told:
            return now
        today = {difference.path for difference in now}
        return [d for d in differences(self.told, shown, bridge=bridge) if d.path in today]

    def outdated(self, shown: str, bridge: str = "") -> bool:
        """Whether the next start would change something."""
        return bool(differences(self.today, shown, bridge=bridge))


def judge(shown: Shown, running: Wishes, defined: Wishes, bridge: str) -> list[Finding]:
    """Everything about the machine: as it runs, as it would start next, and what no definition shows."""
    if shown.defined is None:
        return [finding("machine_missing", running=False)]
    up = shown.live is not None
    found = _form(shown.live, running, bridge, up, "now") if shown.live is not None else []
    found += _form(shown.defined, defined, bridge, up, "at the next start")
    if not shown.marked:
        found.append(finding("mark", running=up))
    if shown.autostart:
        found.append(finding("autostart", running=up))
    return found + [finding(*kind) for taint in shown.taints if (kind := _of_taint(taint))]


def _form(shown: str, wishes: Wishes, bridge: str, up: bool, when: str) -> list[Finding]:
    unlike = wishes.unlike(shown, bridge)
    grave = [d for d in unlike if wishes.told or d.added or kind_of(d) in _GUARDED]
    found = [finding(kind_of(d), f"{said(d)} ({when})", running=up) for d in grave]
    if not found and wishes.outdated(shown, bridge):
        found.append(finding("machine_outdated", when, running=up))
    return found


def kind_of(difference: Difference) -> str:
    """The code of the finding that a difference is."""
    return next(code for pattern, code in PLACES if re.fullmatch(pattern, difference.path, re.DOTALL))


def said(difference: Difference) -> str:
    """A difference in words: where, and what instead of what."""
    place = difference.path.removeprefix("/domain/").removeprefix("devices/").removeprefix("/")
    if difference.wanted is None:
        return f"{place}: added" + (f" ({difference.shown})" if difference.shown else "")
    if difference.shown is None:
        return f"{place}: gone" + (f" ({difference.wanted})" if difference.wanted else "")
    return f"{place}: {difference.shown!r} instead of {difference.wanted!r}"


def _of_taint(taint: str) -> tuple[str, ...]:
    """Code and detail of the finding that a taint is, if any. Another language is not guessed at."""
    if any(word in taint for word in HARMLESS_TAINTS):
        return ()
    english = taint.isascii() and taint.startswith(_TAINTED)
    return ("taint", taint) if english or any(word in taint for word in _KNOWN_TAINTS) else ("language",)


def is_set_aside(shown: Shown) -> bool:
    """Whether the machine stands still with every interface unplugged, or does not run at all."""
    if shown.live is None:
        return True
    interfaces = parse(shown.live).findall("devices/interface")
    unplugged = all(each.find("link[@state='down']") is not None for each in interfaces)
    return shown.power is Power.PAUSED and unplugged
