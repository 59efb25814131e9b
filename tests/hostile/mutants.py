"""The walls with one piece missing: what each rule is for, found by taking it away."""

import re
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt

from deploy.portalctl import walls
from provisioning.driver import xml
from provisioning.specs import host_spec, runtime_spec
from tests.hostile.world import World


def filters(world: World) -> dict[str, str]:
    """Name to the attacker's packet filter without one of its pieces, for each piece."""
    whole = xml.packet_filter(host_spec(world.host), runtime_spec(world.attacker.runtime))
    found = {}
    for number, piece in enumerate(list(ET.fromstring(whole))):  # noqa: S314 - our own
        if piece.tag in {"rule", "filterref"}:
            root = ET.fromstring(whole)  # noqa: S314 - our own
            root.remove(root[number])
            found[f"{number} {_named(piece)}"] = ET.tostring(root, encoding="unicode")
    return found


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
def filter_is(world: World, text: str) -> Iterator[None]:
    """The running attacker's filter is ``text`` for a while; libvirt changes the kernel's rules at once."""
    connection = libvirt.open(world.host.uri)
    try:
        connection.nwfilterDefineXML(text)
        yield
    finally:
        connection.nwfilterDefineXML(
            xml.packet_filter(host_spec(world.host), runtime_spec(world.attacker.runtime))
        )
        connection.close()


def rules() -> dict[str, str]:
    """Name to the host's walls without one of their rules, for each rule; and without any."""
    whole = walls.RULES.read_text()
    lines = re.findall(r"^\t\tiifname.*drop$|^\t\toifname.*drop$", whole, re.MULTILINE)
    found = {}
    for number, line in enumerate(lines):
        parts = whole.split(line)
        # The same text may stand in two tables: take away only this one.
        same = lines[:number].count(line)
        found[f"{number} {line.strip()}"] = (
            line.join(parts[: same + 1]) + line.join(["", *parts[same + 1 :]])[len(line) :]
        )
    return found


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
