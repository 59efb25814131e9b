"""Whether what libvirt shows is what it was told: a comparison that nothing can be added to unseen. Pure.

Both sides become facts: a path, such as ``/domain/devices/disk[vdb]/source@file``, and a value. What libvirt
fills in by itself stands in `ADDED`; a fact that is neither wished for nor in that table is a difference,
whatever element it belongs to. So a kind of device that nobody thought of here is found too.
"""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from provisioning.driver.marks import parse

_KIB = {"b": 1 / 1024, "bytes": 1 / 1024, "KiB": 1, "MiB": 1024, "GiB": 1024**2, "TiB": 1024**3}
_SIZED = {"memory", "currentMemory", "hard_limit", "soft_limit", "swap_hard_limit", "capacity"}
_NAMED_BY = {
    "disk": ("target", "dev"),
    "interface": ("mac", "address"),
    "entry": (".", "name"),
    "parameter": (".", "name"),
    "filterref": (".", "filter"),
}
"""How to tell siblings of one name apart: by the attribute of a child, or of the element itself."""

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DEVICE = r"/domain/devices/[^/]+"
_NIC = r"/domain/devices/interface\[[^]]*\]"
_DISK = r"/domain/devices/disk\[[^]]*\]"
_PCI = r"/domain/devices/controller\[pci:\d+\]"
ADDED: tuple[tuple[str, str], ...] = (
    (r"/domain@id", r"\d+"),
    (r"/domain/currentMemory", r"\d+"),  # while it runs, the guest's own word; what it may have is ``memory``
    (r"/domain/vcpu@placement", r"static"),
    (r"/domain/resource|/domain/resource/partition", r"|/machine"),
    (r"/domain/os/boot(@dev)?", r"|hd"),
    (r"/domain/os/type@machine", r"pc-q35-(rhel)?\d+\.\d+(\.\d+)?"),  # as QEMU or Red Hat counts
    (r"/domain/cpu@check", r"none|partial|full"),
    (r"/domain/cpu@migratable", r"on|off"),
    # QEMU is never root, and what confines it is chosen by libvirt, not by whoever defined the machine.
    (r"/domain/seclabel(#\d)?", r""),
    (r"/domain/seclabel(#\d)?@type", r"dynamic"),
    (r"/domain/seclabel(#\d)?@model", r"dac|apparmor|selinux"),
    (r"/domain/seclabel(#\d)?@relabel", r"yes"),
    (
        r"/domain/seclabel(#\d)?/(label|imagelabel)",
        rf"\+[1-9]\d*:\+[1-9]\d*|libvirt-{_UUID}"
        r"|system_u:(system_r:svirt(_tcg|_kvm)?_t|object_r:svirt_image_t):s0(:c\d+(,c\d+)?)?",
    ),
    (r"/domain/devices/emulator", r"/usr/bin/qemu-system-x86_64|/usr/bin/kvm|/usr/libexec/qemu-kvm"),
    (rf"{_DEVICE}/(alias|address)(@\w+)?", r"[\w.:-]*"),
    (rf"{_DISK}/source@index", r"\d+"),
    (rf"{_DISK}/source/encryption@engine", r"qemu"),
    (rf"{_DISK}/backingStore", r""),
    (rf"{_NIC}/source@portid", _UUID),
    (rf"{_NIC}/source@bridge", r"{bridge}"),
    (rf"{_NIC}/link(@state)?", r"|up"),
    (rf"{_NIC}/target(@dev)?", r"|(vnet|testnet)\d+"),
    (_PCI, r""),
    (rf"{_PCI}@(type|index)", r"pci|\d+"),
    (rf"{_PCI}@model", r"pcie-root|pcie-root-port|pcie-to-pci-bridge"),
    (rf"{_PCI}/(model|target)(@\w+)?", r"|\w[\w-]*"),
    (r"/domain/devices/controller\[sata:0\](@type|@index)?", r"|sata|0"),
    (r"/domain/devices/controller\[usb:0\]@index", r"0"),
    (r"/domain/devices/serial/target(@type|@port)?", r"|isa-serial|0"),
    (r"/domain/devices/serial/target/model(@name)?", r"|isa-serial"),
    (r"/domain/devices/console(@type|/target|/target@type|/target@port)?", r"|null|serial|0"),
    (r"/domain/devices/input(#2)?(@type)?", r"|mouse|keyboard"),
    (r"/domain/devices/input(#2)?@bus", r"ps2"),
    (r"/domain/devices/audio(@id|@type)?", r"|1|none"),
    (r"/domain/devices/watchdog(@model|@action)?", r"|itco|reset"),  # q35's own, from libvirt 9.1 on
    (r"/network@(connections|ipv6)", r"\d+|no"),
    (r"/network/mac(@address)?", r"|[0-9a-f:]{17}"),
)
"""What libvirt adds to a machine or network of ours: path and value, both to be matched in full."""


_DROPPED = {("/network@ipv6", "no"), ("/domain/os/cmdline", "")}
"""What libvirt does not show again, since it is its default."""
_ALIASES = {"q35"}
"""Wishes that libvirt answers with a name of its own."""


@dataclass(frozen=True)
class Difference:
    """One fact that differs; None for the side that does not have it."""

    path: str
    wanted: str | None
    shown: str | None

    @property
    def added(self) -> bool:
        """Whether it is there without having been wished for."""
        return self.wanted is None


def differences(wanted: str, shown: str, *, bridge: str = "") -> list[Difference]:
    """What ``shown`` (libvirt's XML) has other than ``wanted`` (ours); empty if they are alike.

    Of an element that is there or absent as a whole only its own path is told, not what is in it.

    Args:
        bridge: the name of the bridge that an interface may be on.
    """
    ours, theirs = facts(wanted), facts(shown)
    found = [
        Difference(path, ours.get(path), value)
        for path, value in theirs.items()
        if ours.get(path) != value and not _added(path, value, bridge)
    ]
    told = {difference.path for difference in found}
    found += [
        Difference(path, value, None)
        for path, value in ours.items()
        if path not in told and path not in theirs and (path, value) not in _DROPPED
    ]
    found += _not_the_wish(ours, theirs, told)
    return sorted(_outermost(found), key=lambda difference: difference.path)


def _not_the_wish(ours: Mapping[str, str], theirs: Mapping[str, str], told: set[str]) -> list[Difference]:
    """Facts that have a value from the table where we wished for another one of our own."""
    return [
        Difference(path, value, theirs[path])
        for path, value in ours.items()
        if path in theirs and theirs[path] != value and path not in told and value not in _ALIASES
    ]


def _added(path: str, value: str, bridge: str) -> bool:
    return any(
        re.fullmatch(place, path) and re.fullmatch(what.replace("{bridge}", re.escape(bridge)), value)
        for place, what in ADDED
    )


def _outermost(found: list[Difference]) -> Iterator[Difference]:
    whole = [d.path for d in found if d.wanted is None or d.shown is None]
    for difference in found:
        if not any(_inside(difference.path, path) for path in whole):
            yield difference


def _inside(path: str, element: str) -> bool:
    return path.startswith((f"{element}/", f"{element}@"))


def facts(text: str) -> dict[str, str]:
    """Every element, attribute and text of an XML document by its path, without metadata.

    Sizes are in KiB, whatever the unit. Of elements that cannot be told apart, the second is ``name#2``.
    """
    root = parse(text)
    for metadata in root.findall("metadata"):
        root.remove(metadata)  # the mark is looked at on its own; the rest means nothing to a hypervisor
    return dict(_facts(root, f"/{root.tag}"))


def _facts(element: ET.Element, path: str) -> Iterator[tuple[str, str]]:
    unit = element.get("unit", "KiB") if element.tag in _SIZED else None
    text = (element.text or "").strip()
    if unit is not None and text.isdigit():
        text = f"{int(text) * _KIB.get(unit, 0):.0f}"
    yield path, text
    for name, value in element.attrib.items():
        if not (unit is not None and name == "unit"):
            yield f"{path}@{name}", value
    seen: Counter[str] = Counter()
    for child in element:
        name = _name(child)
        seen[name] += 1
        yield from _facts(child, f"{path}/{name}" + (f"#{seen[name]}" if seen[name] > 1 else ""))


def _name(element: ET.Element) -> str:
    if element.tag == "controller":
        return f"controller[{element.get('type')}:{element.get('index', '0')}]"
    if element.tag in _NAMED_BY:
        child, attribute = _NAMED_BY[element.tag]
        holder = element if child == "." else element.find(child)
        return f"{element.tag}[{'' if holder is None else holder.get(attribute, '')}]"
    return str(element.tag)
