"""How bad a difference is: pure, on the form of a machine that libvirt 9.0 showed."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.drift import machine, surroundings
from provisioning.drift.check import judged
from provisioning.drift.findings import HOST_KINDS, KINDS, Severity, finding, worst
from provisioning.drift.machine import Wishes, is_set_aside, judge, kind_of
from provisioning.driver import Binding, Power, Shown, User, naming, xml
from provisioning.driver.likeness import Difference
from provisioning.driver.marks import parse
from provisioning.models import Told
from tests.driver import test_likeness as example

SHOWN = (Path(example.__file__).parent / "shown.xml").read_text()
WANTED, HOST, SPEC, BRIDGE = example.WANTED, example.HOST, example.SPEC, example.BRIDGE
RULES, NETWORK = xml.packet_filter(HOST, SPEC), xml.network(HOST, SPEC)
FILTER = naming.filter_name(HOST.fleet, SPEC.runtime_id)
TAP = naming.tap_name(HOST.fleet, SPEC.network_index)
VOLUME = "<volume><capacity unit='GiB'>1</capacity><target><format type='qcow2'/><encryption format='luks'/></target></volume>"
WELL = Shown(
    power=Power.RUNNING,
    live=SHOWN,
    defined=SHOWN,
    filter=RULES,
    bindings=(Binding(TAP, FILTER, SPEC.guest_address),),
    network=NETWORK,
    network_defined=NETWORK,
    network_active=True,
    network_autostart=True,
    ports=(TAP,),
    volume=VOLUME,
)


def codes(shown: Shown, told: str = WANTED, rules: str = RULES) -> dict[str, Severity]:
    wishes = Wishes(WANTED, told)
    found = judge(shown, wishes, wishes, BRIDGE)
    found += surroundings.judge(shown, HOST, SPEC, Wishes(RULES, rules), Wishes(NETWORK, NETWORK))
    return {each.code: each.severity for each in found}


def changed(shown: Shown, **more: object) -> Shown:
    return replace(shown, **more)  # type: ignore[arg-type]


def with_device(text: str, device: str) -> str:
    root = parse(text)
    root.find("devices").append(parse(device))  # type: ignore[union-attr]
    return ET.tostring(root, encoding="unicode")


def test_a_machine_as_it_was_told_has_no_findings() -> None:
    assert codes(WELL) == {}
    assert codes(changed(WELL, live=None, power=Power.OFF)) == {}


@given(
    kind=st.sampled_from(example.KINDS),
    where=st.sampled_from(["live", "defined"]),
    attributes=st.dictionaries(example.WORDS.filter(str.isalpha), example.WORDS, max_size=2),
)
def test_any_added_device_is_grave(kind: str, where: str, attributes: dict[str, str]) -> None:
    """Of whatever kind; in what runs and in what would start next."""
    device = ET.tostring(ET.Element(kind, attributes), encoding="unicode")
    shown = changed(WELL, **{where: with_device(SHOWN, device)})
    assert Severity.QUARANTINE in codes(shown).values()


@given(path=st.text(max_size=60))
def test_every_path_has_a_kind(path: str) -> None:
    """What nobody thought of is grave."""
    assert kind_of(Difference(path, None, "")) in KINDS
    assert kind_of(Difference(f"/domain/x{path}", None, "")) == "definition"


@pytest.mark.parametrize(
    ("shown", "code", "running", "off"),
    [
        ({"filter": None}, "filter_missing", Severity.QUARANTINE, Severity.MEND),
        ({"filter": "<filter name='x'/>"}, "filter_changed", Severity.QUARANTINE, Severity.QUARANTINE),
        ({"network": None}, "network_missing", Severity.QUARANTINE, Severity.MEND),
        ({"network_active": False}, "network_down", Severity.MEND, Severity.MEND),
        ({"network_autostart": False}, "network_down", Severity.MEND, Severity.MEND),
        ({"autostart": True}, "autostart", Severity.MEND, Severity.MEND),
        ({"marked": False}, "mark", Severity.QUARANTINE, Severity.QUARANTINE),
        ({"ports": (TAP, "eth7")}, "bridge_shared", Severity.QUARANTINE, Severity.QUARANTINE),
        ({"volume": None}, "volume_missing", Severity.NOTE, Severity.NOTE),
        (
            {"volume": VOLUME.replace("luks", "qcow")},
            "volume_plain",
            Severity.QUARANTINE,
            Severity.QUARANTINE,
        ),
        (
            {"volume": VOLUME.replace("qcow2", "raw")},
            "volume_plain",
            Severity.QUARANTINE,
            Severity.QUARANTINE,
        ),
        (
            {"volume": VOLUME.replace("</volume>", "<backingStore><path>/x</path></backingStore></volume>")},
            "disk",
            Severity.QUARANTINE,
            Severity.QUARANTINE,
        ),
    ],
)
def test_how_bad_it_is_depends_on_whether_it_runs(
    shown: dict[str, object], code: str, running: Severity, off: Severity
) -> None:
    assert codes(changed(WELL, **shown)) == {code: running}
    shown = {"ports": ("eth7",)} if code == "bridge_shared" else {"ports": (), **shown}
    assert codes(changed(WELL, live=None, power=Power.OFF, **shown)) == {code: off}


@pytest.mark.parametrize(
    "bindings",
    [
        (),
        (Binding(TAP, "allow-ipv4", SPEC.guest_address),),
        (Binding(TAP, FILTER, "10.0.0.9"),),
        (Binding("vnet9", FILTER, SPEC.guest_address),),
    ],
)
def test_a_filter_that_is_not_tied_to_the_tap_is_grave(bindings: tuple[Binding, ...]) -> None:
    """The definition names it still; the kernel has no rule of it, or others."""
    assert codes(changed(WELL, bindings=bindings)) == {"filter_loose": Severity.QUARANTINE}


def test_where_libvirt_keeps_no_bindings_none_are_missed() -> None:
    assert codes(changed(WELL, bindings=None)) == {}


@pytest.mark.parametrize(
    ("taint", "code"),
    [
        ("tainted: custom monitor control commands issued", {"taint"}),
        ("tainted: running as root", {"taint"}),
        ("tainted: something that a later libvirt says", {"taint"}),
        ("汚染: custom monitor control commands issued", {"taint"}),
        ("tainted: potentially unsafe use of host CPU passthrough", set()),
        ("tainted: use of host cpu passthrough", set()),
        ("汚染: ホストの CPU パススルーの使用", {"language"}),
        ("tainted: ホストの CPU パススルーの使用", {"language"}),
        ("besmet: iets anders", {"language"}),
    ],
)
def test_what_went_around_libvirt_is_grave(taint: str, code: set[str]) -> None:
    """In words that we can read; in others, staff are told so, since on KVM each guest has a harmless one."""
    found = codes(changed(WELL, taints=(taint,)))
    assert set(found) == code
    assert found.get("language", Severity.ALERT) is Severity.ALERT
    assert found.get("taint", Severity.QUARANTINE) is Severity.QUARANTINE


def test_limits_are_mended_and_shares_of_other_kinds_too() -> None:
    for old, new in (
        ("<quota>50000</quota>", "<quota>-1</quota>"),
        ("<total_iops_sec>200</total_iops_sec>", "<total_iops_sec>9</total_iops_sec>"),
        ("<memory unit='KiB'>65536</memory>", "<memory unit='KiB'>99999</memory>"),
    ):
        assert codes(changed(WELL, live=SHOWN.replace(old, new)))["limits"] is Severity.MEND


def test_what_was_told_counts_and_what_would_be_told_is_a_note() -> None:
    """An older portal's form of the machine: no alarm, until somebody changes it."""
    older, shown = WANTED.replace("<clock", "<x/><clock"), SHOWN.replace("<clock", "<x/><clock")
    assert codes(changed(WELL, live=shown, defined=shown), told=older) == {"machine_outdated": Severity.NOTE}
    assert codes(changed(WELL, live=shown, defined=shown)) == {"definition": Severity.QUARANTINE}
    assert codes(WELL, told=older) == {}, "it is as it would be told today"


def test_without_a_note_only_what_is_there_too_much_or_guards_is_grave() -> None:
    """A machine of a portal that took no notes yet; its taps had names that libvirt had chosen."""
    shown = SHOWN.replace(f"dev='{TAP}'", "dev='vnet1'")
    loose = (Binding("vnet1", FILTER, SPEC.guest_address),)
    older = changed(WELL, live=shown, bindings=loose, ports=("vnet1",))
    assert codes(older, told="") == {"machine_outdated": Severity.NOTE}
    assert codes(changed(older, filter="<filter name='x'/>"), rules="")["filter_outdated"] is Severity.MEND
    added = changed(older, live=with_device(shown, "<filesystem/>"))
    assert codes(added, told="")["shared_files"] is Severity.QUARANTINE
    unguarded = parse(shown)
    interface = unguarded.find("devices/interface")
    assert interface is not None
    interface.remove(interface.find("filterref"))  # type: ignore[arg-type]
    text = ET.tostring(unguarded, encoding="unicode")
    assert codes(changed(older, live=text), told="")["filter_reference"] is Severity.QUARANTINE


@pytest.mark.parametrize(
    ("old", "new", "grave"),
    [
        ('stp="off"', 'stp="on"', False),
        ("<dns ", "<forward mode='nat'/><dns ", True),
        (f'name="{BRIDGE}"', 'name="br0"', True),
        (SPEC.host_address, "10.9.9.9", True),
    ],
)
def test_without_a_note_an_older_portals_network_is_none_that_was_changed(
    old: str, new: str, grave: bool
) -> None:
    assert old in NETWORK
    shown = changed(WELL, network=NETWORK.replace(old, new))
    told = Told(machine=WANTED, running=WANTED, filter=RULES)
    assert ("network_changed" in {each.code for each in judged(shown, HOST, SPEC, told)}) is grave


def test_a_note_of_the_definition_is_none_of_what_runs() -> None:
    """A machine that was up before notes were taken was defined anew, and has never run as that."""
    shown = SHOWN.replace(f"dev='{TAP}'", "dev='vnet1'")
    bindings = (Binding("vnet1", FILTER, SPEC.guest_address),)
    older = changed(WELL, live=shown, bindings=bindings, ports=("vnet1",))
    told = Told(machine=WANTED, filter=RULES, network=NETWORK)
    assert [each.code for each in judged(older, HOST, SPEC, told)] == ["machine_outdated"]
    added = changed(older, live=with_device(shown, "<filesystem/>"))
    assert "shared_files" in {each.code for each in judged(added, HOST, SPEC, told)}


@pytest.mark.parametrize(
    ("user", "shared"),
    [
        (User("x", True, frozenset({"/pool/rt-{id}.qcow2"}), frozenset(), frozenset()), True),
        (User("x", True, frozenset({"/pool/rt-{id}.credential"}), frozenset(), frozenset()), True),
        (User("x", False, frozenset({"/"}), frozenset(), frozenset()), True),
        (User("x", False, frozenset({"/pool/"}), frozenset(), frozenset()), True),
        (User("x", True, frozenset(), frozenset({"rtn-dtxml-{id}"}), frozenset()), True),
        (User("x", True, frozenset(), frozenset(), frozenset({BRIDGE})), True),
        (User("x", True, frozenset({"/pool-2/y", "/images/1/root.img"}), frozenset({"default"}), frozenset({"br0"})), False),
    ],
)  # fmt: skip
def test_others_on_what_is_the_runtimes_own_are_found(user: User, shared: bool) -> None:
    fill = {"id": str(SPEC.runtime_id)}
    user = replace(
        user,
        files=frozenset(each.format(**fill) for each in user.files),
        networks=frozenset(each.format(**fill) for each in user.networks),
    )
    assert bool(surroundings.others(HOST, SPEC, [user])) is shared


def test_another_runtimes_tap_on_the_bridge_is_that_ones_finding() -> None:
    """Otherwise one changed machine would take its neighbours into quarantine with it."""
    wishes = (Wishes(RULES, RULES), Wishes(NETWORK, NETWORK))
    shared = changed(WELL, ports=(TAP, "vnet9"))
    assert [each.code for each in surroundings.judge(shared, HOST, SPEC, *wishes)] == ["bridge_shared"]
    assert surroundings.judge(shared, HOST, SPEC, *wishes, frozenset({"vnet9"})) == []


def test_set_aside_means_paused_and_every_interface_unplugged() -> None:
    unplugged = SHOWN.replace("<port isolated", "<link state='down'/><port isolated")
    assert is_set_aside(changed(WELL, live=unplugged, power=Power.PAUSED))
    assert not is_set_aside(changed(WELL, live=unplugged, power=Power.RUNNING))
    assert not is_set_aside(changed(WELL, power=Power.PAUSED))
    second = with_device(unplugged, "<interface type='network'><source network='x'/></interface>")
    assert not is_set_aside(changed(WELL, live=second, power=Power.PAUSED))
    assert is_set_aside(changed(WELL, live=None, power=Power.OFF))


def test_the_table_is_whole() -> None:
    """Every code fits its column, every path's kind is in it, and the gravest of many is the one that counts."""
    assert all(len(code) <= 24 for code in {**KINDS, **HOST_KINDS})
    assert {code for _, code in machine.PLACES} <= set(KINDS)
    assert worst([finding("limits"), finding("disk"), finding("machine_outdated")]) is Severity.QUARANTINE
    assert worst([]) is None
