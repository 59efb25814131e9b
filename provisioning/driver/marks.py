"""What libvirt's answers say about an object: whose it is, and which bridge, address or MAC it has. Pure."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from uuid import UUID

from provisioning.driver.xml import METADATA_URI

_MARK = f"{{{METADATA_URI}}}runtime"


@dataclass(frozen=True)
class Mark:
    """Our metadata element."""

    fleet: str
    runtime: str
    digest: str


def parse(text: str) -> ET.Element:
    """libvirt's own XML as a tree. It comes from the daemon we obey anyway, not from a tenant."""
    return ET.fromstring(text)  # noqa: S314


def mark_of(root: ET.Element) -> Mark | None:
    """Our mark in the XML of a domain or network (or the bare metadata element), or None."""
    element = root.find(f"metadata/{_MARK}")
    if element is None and root.tag in {_MARK, "runtime"}:
        element = root
    if element is None:
        return None
    return Mark(element.get("fleet", ""), element.get("runtime", ""), element.get("digest", ""))


def belongs(mark: Mark | None, fleet: str, runtime_id: UUID) -> bool:
    """Whether the mark names exactly this runtime of this fleet."""
    return mark is not None and (mark.fleet, mark.runtime) == (fleet, str(runtime_id))


def attribute(root: ET.Element, path: str, name: str) -> str | None:
    """An attribute of the first element at ``path``, or None."""
    element = root.find(path)
    return None if element is None else element.get(name)


def same_rules(left: str, right: str) -> bool:
    """Whether two packet filters are the same but for layout and order of attributes."""
    return ET.canonicalize(left, strip_text=True) == ET.canonicalize(right, strip_text=True)
