"""The walls with one piece missing: what each rule is for, found by taking it away."""

import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt

from deploy.portalctl import walls
from provisioning.driver import xml
from provisioning.driver.types import HostSpec, RuntimeSpec

PIECES = (
    "no-mac-spoofing",
    "no-ip-spoofing",
    "no-arp-spoofing",
    "accept in ip dst 8443",
    "accept in ip src 3128",
    "accept out ip src 8443",
    "accept out ip dst 3128",
    "accept in arp",
    "accept out arp",
    "drop out tcp dst 3128 crowd",
    "accept in tcp dst 8443",
    "accept out tcp dst 3128",
    "drop inout all",
    "drop inout all-ipv6",
    "drop inout everything",
)
TWICE = {
    "no-ip-spoofing": "every accept names the guest's address as well",
    "drop inout all-ipv6": "the last rule drops every frame of IPv6, before the host's IPv6 could see it",
    "drop out tcp dst 3128 crowd": "it bounds how many, and stops no single frame; a test of its own fills the table without it",
}
"""Pieces without which nothing more gets through, and why they stay: none should rest on another."""


def pieces(host: HostSpec, spec: RuntimeSpec) -> list[str]:
    """The names of the pieces of the runtime's packet filter, in order."""
    root = ET.fromstring(xml.packet_filter(host, spec))  # noqa: S314 - our own
    return [_named(each) for each in root if each.tag != "uuid"]


def without_piece(host: HostSpec, spec: RuntimeSpec, piece: str) -> str:
    """The runtime's packet filter without the one piece of that name."""
    root = ET.fromstring(xml.packet_filter(host, spec))  # noqa: S314 - our own
    (found,) = [each for each in root if each.tag != "uuid" and _named(each) == piece]
    root.remove(found)
    return ET.tostring(root, encoding="unicode")


def _named(piece: ET.Element) -> str:
    if piece.tag == "filterref":
        return str(piece.get("filter"))
    match = next(iter(piece), None)
    what = "everything" if match is None else " ".join([match.tag, *_ports(match)])
    return f"{piece.get('action')} {piece.get('direction')} {what}"


def _ports(match: ET.Element) -> list[str]:
    ports = [
        f"{end} {match.get(f'{end}portstart')}" for end in ("src", "dst") if match.get(f"{end}portstart")
    ]
    return [*ports, *(["crowd"] if match.get("connlimit-above") else ())]


@contextmanager
def filter_is(host: HostSpec, spec: RuntimeSpec, text: str) -> Iterator[None]:
    """The runtime's filter is ``text`` for a while; libvirt changes the kernel's rules at once."""
    connection = libvirt.open(host.uri)
    try:
        _define(connection, text)
        yield
    finally:
        _define(connection, xml.packet_filter(host, spec))
        connection.close()


def _define(connection: Any, text: str, left: int = 5) -> None:
    """Another program that changes the host's rules at the same instant makes libvirt give up, and keep the old."""
    try:
        connection.nwfilterDefineXML(text)
    except libvirt.libvirtError as error:
        if left == 0 or "Failed to apply firewall rules" not in str(error):
            raise
        _define(connection, text, left - 1)


@contextmanager
def walls_are(text: str) -> Iterator[None]:
    """The host's walls are ``text`` for a while."""
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(text)
        file.flush()
        _load(Path(file.name))
    try:
        yield
    finally:
        _load(walls.RULES)


def _load(path: Path) -> None:
    subprocess.run(["nft", "--file", str(path)], check=True, capture_output=True, timeout=20)


def without(text: str, part: str) -> str:
    """``text`` without the lines that hold ``part``."""
    return "\n".join(line for line in text.splitlines() if part not in line) + "\n"
