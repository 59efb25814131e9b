"""The comparison of what libvirt shows with what it was told: it lets libvirt's own additions pass, and no others.

``shown.xml`` is what libvirt 9.0 shows of a running machine of ours; `SPEC` is what it was told.
"""

import copy
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.driver import ImageSpec, xml
from provisioning.driver.likeness import Difference, differences, facts
from provisioning.driver.marks import parse
from provisioning.driver.types import Engine, HostSpec
from tests.driver.support import runtime

HOST = HostSpec("qemu:///system", Engine.QEMU, "dtxml", "/pool")
SPEC = runtime(ImageSpec("1", "/images/1", {}, "quiet"), runtime_id=UUID(int=1))
WANTED = xml.domain(HOST, SPEC)
SHOWN = (Path(__file__).parent / "shown.xml").read_text()
NETWORK = xml.network(HOST, SPEC)
BRIDGE = "rtdtxml-0007"
DEVICES = "/domain/devices"
KINDS = (
    "filesystem", "hostdev", "channel", "console", "serial", "parallel", "graphics", "video", "sound", "usb",
    "redirdev", "vsock", "shmem", "tpm", "smartcard", "hub", "iommu", "panic", "nvram", "crypto", "memory",
    "disk", "interface", "controller", "input", "rng", "memballoon", "lease", "audio", "emulator",
)  # fmt: skip
"""Every kind of device that libvirt knows, but for q35's own watchdog."""
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789/.-:", min_size=1, max_size=12)


def found(shown: str, wanted: str = WANTED) -> list[Difference]:
    return differences(wanted, shown, bridge=BRIDGE)


def text(root: ET.Element) -> str:
    return ET.tostring(root, encoding="unicode")


def elements(root: ET.Element) -> Iterator[ET.Element]:
    """All that a comparison looks at: metadata is not."""
    yield root
    for child in root:
        if child.tag != "metadata":
            yield from elements(child)


def test_what_libvirt_adds_is_no_difference() -> None:
    assert found(SHOWN) == []
    assert len(facts(SHOWN)) > len(facts(WANTED)) + 100, "the example shows that libvirt adds much"


@pytest.mark.parametrize(
    ("machine", "ours"),
    [("pc-q35-9.0", True), ("pc-q35-10.0.1", True), ("pc-q35-rhel9.4.0", True), ("pc-i440fx-9.0", False), ("q36", False)],
)  # fmt: skip
def test_the_machine_type_is_q35_of_whatever_version(machine: str, ours: bool) -> None:
    """Red Hat counts its own."""
    assert (found(SHOWN.replace("pc-q35-7.2", machine)) == []) is ours


def test_a_network_as_libvirt_shows_it_is_no_difference() -> None:
    shown = parse(NETWORK)
    del shown.attrib["ipv6"]
    shown.set("connections", "1")
    ET.SubElement(shown, "mac", address="52:54:00:77:7e:25")
    assert differences(NETWORK, text(shown)) == []


@pytest.mark.parametrize(
    "added",
    [
        "<forward mode='nat'/>",
        "<ip family='ipv6' address='fd00::1' prefix='64'/>",
        "<ip address='10.9.9.1' prefix='24'><dhcp><range start='10.9.9.2' end='10.9.9.9'/></dhcp></ip>",
        "<route address='10.0.0.0' prefix='8' gateway='10.215.7.30'/>",
        "<portgroup name='x'/>",
    ],
)
def test_a_network_that_leads_elsewhere_is_found(added: str) -> None:
    shown = parse(NETWORK)
    shown.append(parse(added))
    assert differences(NETWORK, text(shown))


@pytest.mark.parametrize("ipv6", ["yes"])
def test_ipv6_on_the_bridge_is_found(ipv6: str) -> None:
    shown = parse(NETWORK)
    shown.set("ipv6", ipv6)
    assert [d.path for d in differences(NETWORK, text(shown))] == ["/network@ipv6"]


@given(kind=st.sampled_from(KINDS), attributes=st.dictionaries(WORDS.filter(str.isalpha), WORDS, max_size=3))
def test_any_added_device_is_found(kind: str, attributes: dict[str, str]) -> None:
    """Of whatever kind, with whatever attributes, beside those that are there."""
    shown = parse(SHOWN)
    devices = shown.find("devices")
    assert devices is not None
    ET.SubElement(devices, kind, attributes)
    assert any(d.path.startswith(f"{DEVICES}/{kind}") and d.added for d in found(text(shown)))


@given(data=st.data(), tag=st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=10))
def test_any_element_anywhere_is_found(data: st.DataObject, tag: str) -> None:
    """A word that nobody knows, in any place: as a later libvirt may bring it."""
    tag = f"x{tag}"
    shown = parse(SHOWN)
    parent = data.draw(st.sampled_from(list(elements(shown))))
    ET.SubElement(parent, tag)
    assert any(tag in d.path and d.added for d in found(text(shown)))


@given(data=st.data(), value=WORDS)
def test_any_changed_value_of_ours_is_found(data: st.DataObject, value: str) -> None:
    """Every attribute that we wish for, set to another value in what is shown."""
    shown, wanted = parse(SHOWN), facts(WANTED)
    places = [
        (element, name)
        for element in elements(shown)
        for name in element.attrib
        if f"@{name}" in "".join(path for path, held in wanted.items() if held == element.get(name))
        and element.tag not in {"alias", "address", "console", "input", "audio", "target", "model", "label"}
    ]
    element, name = data.draw(st.sampled_from(places))
    old = element.get(name)
    if value == old or (element.tag == "type" and name == "machine") or name in {"index", "placement"}:
        return
    element.set(name, value)
    assert found(text(shown)), (element.tag, name, old, value)


def test_every_element_of_ours_that_is_gone_is_found() -> None:
    """One after the other, each is taken out of what is shown."""
    ours = {path for path in facts(WANTED) if "@" not in path}
    taken = 0
    for index, element in enumerate(list(elements(parse(SHOWN)))):
        shown = parse(SHOWN)
        target = list(elements(shown))[index]
        parents = [parent for parent in elements(shown) if target in list(parent)]
        if not parents or not any(path.rpartition("/")[2].startswith(element.tag) for path in ours):
            continue
        before = set(facts(text(shown)))
        parents[0].remove(target)
        if not (before - set(facts(text(shown)))) & ours:
            continue  # libvirt's own, such as the second boot device
        taken += 1
        assert found(text(shown)), element.tag
    assert taken > 40


SUBSTITUTES = {
    "another volume": (
        "devices/disk[2]/source",
        "file",
        "/pool/rt-00000000-0000-0000-0000-000000000002.qcow2",
    ),
    "another system": ("devices/disk[1]/source", "file", "/srv/root.img"),
    "no encryption": ("devices/disk[2]/source/encryption", "format", "default"),
    "another key": ("devices/disk[2]/source/encryption/secret", "uuid", str(UUID(int=9))),
    "raw": ("devices/disk[2]/driver", "type", "raw"),
    "another bridge": ("devices/interface/source", "bridge", "virbr0"),
    "another network": ("devices/interface/source", "network", "default"),
    "another filter": ("devices/interface/filterref", "filter", "allow-arp"),
    "another address": ("devices/interface/filterref/parameter", "value", "10.0.0.1"),
    "not isolated": ("devices/interface/port", "isolated", "no"),
    "another tap": ("devices/interface/target", "dev", "vnet7"),
    "another emulator": ("devices/emulator", None, "/srv/qemu"),
    "root": ("seclabel/label", None, "+0:+0"),
    "no label": ("seclabel", "type", "none"),
    "more memory": ("memory", None, "131072"),
    "more processor": ("cputune/quota", None, "-1"),
    "another kernel": ("os/kernel", None, "/srv/vmlinuz"),
    "more words": ("os/cmdline", None, "quiet init=/bin/sh"),
    "a readable console": ("devices/serial", "type", "pty"),
    "a console elsewhere": ("devices/console", "type", "unix"),
    "a USB bus": ("devices/controller", "model", "qemu-xhci"),
    "other papers": ("sysinfo/entry", "file", "/etc/shadow"),
    "another cap": ("devices/disk[2]/iotune/total_iops_sec", None, "100000"),
    "another random source": ("devices/rng/backend", None, "/dev/sda"),
}


@pytest.mark.parametrize("place", SUBSTITUTES)
def test_what_an_attacker_would_change_is_found(place: str) -> None:
    path, attribute, value = SUBSTITUTES[place]
    shown = parse(SHOWN)
    element = shown.find(path)
    assert element is not None
    if attribute is None:
        element.text = value
    else:
        element.set(attribute, value)
    assert found(text(shown)), path


@pytest.mark.parametrize(
    ("parent", "added", "told"),
    [
        ("devices/disk[2]", "<mirror type='file' file='/srv/copy'/>", "/mirror"),
        ("devices/disk[2]/backingStore", "<source file='/etc/shadow'/>", "/backingStore/source"),
        ("devices/disk[2]", "<shareable/>", "/shareable"),
        (".", "<launchSecurity type='sev'/>", "/launchSecurity"),
        (".", "<memoryBacking><access mode='shared'/></memoryBacking>", "/memoryBacking"),
        ("os", "<loader>/srv/x</loader>", "/os/loader"),
        ("features", "<hyperv><relaxed state='on'/></hyperv>", "/features/hyperv"),
        (
            ".",
            "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-s'/></q:commandline>",
            "commandline",
        ),
        ("devices/interface", "<link state='down'/>", "/link@state"),
        ("devices/interface", "<mirror dev='eth0'/>", "/mirror"),
    ],
)
def test_what_an_attacker_would_add_is_found_once(parent: str, added: str, told: str) -> None:
    """The outermost element is told, and what is in it is not."""
    shown = parse(SHOWN)
    place = shown.find(parent)
    assert place is not None
    place.append(parse(added))
    (difference,) = found(text(shown))
    assert difference.path.endswith(told)
    assert difference.added


def test_a_watchdog_is_q35s_own_or_found() -> None:
    for model, alike in (("itco", True), ("i6300esb", False)):
        shown = parse(SHOWN)
        ET.SubElement(shown.find("devices"), "watchdog", model=model, action="reset")  # type: ignore[arg-type]
        assert (found(text(shown)) == []) is alike


def test_two_interfaces_of_one_address_are_two() -> None:
    shown = parse(SHOWN)
    devices = shown.find("devices")
    assert devices is not None
    devices.append(copy.deepcopy(devices.find("interface")))  # type: ignore[arg-type]
    assert [d.path for d in found(text(shown))] == [f"{DEVICES}/interface[{SPEC.mac}]#2"]


def test_a_guests_own_word_about_its_balloon_is_no_difference() -> None:
    """A hostile guest tells libvirt what it likes, and must not fill the record with it."""
    assert found(SHOWN.replace("<currentMemory unit='KiB'>65536<", "<currentMemory unit='KiB'>7<")) == []


def test_units_do_not_matter() -> None:
    shown = parse(SHOWN)
    memory = shown.find("memory")
    assert memory is not None
    memory.text, memory.attrib["unit"] = "64", "MiB"
    assert found(text(shown)) == []


def test_a_changed_wish_is_told_with_both_values() -> None:
    (difference,) = found(SHOWN, xml.domain(HOST, replace(SPEC, cpu_percent=20)))
    assert difference == Difference("/domain/cputune/quota", "20000", "50000")
