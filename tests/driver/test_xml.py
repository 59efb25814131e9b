"""What libvirt is told: the properties that isolation rests on."""

import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from provisioning.driver import HostSpec, ImageSpec, RuntimeSpec, naming, xml
from provisioning.driver.marks import parse, same_rules
from provisioning.driver.types import Engine
from tests.driver.support import runtime

HOST = HostSpec("qemu:///system", Engine.QEMU, "dtxml", "/pool")
SPEC = runtime(ImageSpec("1", "/images/1", {}, "quiet"), runtime_id=UUID(int=1))


def _domain(host: HostSpec = HOST, spec: RuntimeSpec = SPEC) -> ET.Element:
    return parse(xml.domain(host, spec))


def _disk(root: ET.Element, serial: str) -> ET.Element:
    return next(disk for disk in root.iterfind("devices/disk") if disk.findtext("serial") == serial)


@pytest.mark.parametrize(
    ("engine", "mode"), [(Engine.KVM, "host-passthrough"), (Engine.QEMU, "maximum"), (Engine.TEST, "maximum")]
)
def test_engine_and_processor(engine: Engine, mode: str) -> None:
    root = _domain(replace(HOST, engine=engine))
    assert root.get("type") == engine.value
    assert root.find("cpu").get("mode") == mode  # type: ignore[union-attr]


def test_the_system_disk_is_raw_and_read_only() -> None:
    disk = _disk(_domain(), "root")
    assert disk.find("driver").attrib == {"name": "qemu", "type": "raw"}  # type: ignore[union-attr]
    assert disk.find("readonly") is not None
    assert disk.find("source/seclabel").attrib == {"model": "dac", "relabel": "no"}  # type: ignore[union-attr]
    assert disk.find("source").get("file") == "/images/1/root.img"  # type: ignore[union-attr]


def test_the_data_volume_is_luks_with_the_runtimes_own_secret() -> None:
    disk = _disk(_domain(), "data")
    assert disk.find("driver").attrib == {"name": "qemu", "type": "qcow2", "discard": "unmap"}  # type: ignore[union-attr]
    assert disk.find("source/encryption").get("format") == "luks"  # type: ignore[union-attr]
    secret = disk.find("source/encryption/secret")
    assert secret is not None
    assert secret.get("uuid") == str(naming.secret_uuid(SPEC.runtime_id))
    assert disk.findtext("iotune/total_iops_sec") == "200"
    assert disk.find("readonly") is None


def test_the_volume_is_made_as_luks_with_a_named_cipher() -> None:
    root = parse(xml.volume(SPEC))
    assert root.find("target/format").get("type") == "qcow2"  # type: ignore[union-attr]
    cipher = root.find("target/encryption[@format='luks']/cipher")
    assert cipher is not None
    assert cipher.attrib == {"name": "aes", "size": "256", "mode": "xts", "hash": "sha512"}


def test_no_cap_on_operations_unless_asked() -> None:
    assert _domain(spec=replace(SPEC, iops=None)).find(".//iotune") is None


def test_bandwidth_only_where_the_host_can() -> None:
    """Kilobytes a second, each way."""
    able = replace(HOST, capabilities=frozenset({"bandwidth"}))
    shaped = _domain(able, replace(SPEC, bandwidth_mbit=8))
    for way in ("inbound", "outbound"):
        limit = shaped.find(f"devices/interface/bandwidth/{way}")
        assert limit is not None
        assert limit.attrib == {"average": "1000"}
    for host, rate in ((able, None), (HOST, 8)):
        assert _domain(host, replace(SPEC, bandwidth_mbit=rate)).find(".//bandwidth") is None


def test_only_the_devices_that_a_guest_needs() -> None:
    """No graphics, USB, channel, shared directory, host device; a console that nobody can read."""
    devices = _domain().find("devices")
    assert devices is not None
    kinds = sorted(device.tag for device in devices)
    assert kinds == ["controller", "disk", "disk", "interface", "memballoon", "rng", "serial"]
    assert devices.find("controller").attrib == {"type": "usb", "model": "none"}  # type: ignore[union-attr]
    assert devices.find("serial").attrib == {"type": "null"}  # type: ignore[union-attr]


def test_the_interface_is_filtered_isolated_and_bound_to_its_address() -> None:
    interface = _domain().find("devices/interface")
    assert interface is not None
    assert interface.find("port").get("isolated") == "yes"  # type: ignore[union-attr]
    tap = naming.tap_name("dtxml", SPEC.network_index)
    assert interface.find("target").get("dev") == tap  # type: ignore[union-attr]
    reference = interface.find("filterref")
    assert reference is not None
    assert reference.get("filter") == naming.filter_name("dtxml", SPEC.runtime_id)
    assert reference.find("parameter").attrib == {"name": "IP", "value": SPEC.guest_address}  # type: ignore[union-attr]


def test_the_credential_comes_from_a_file() -> None:
    """Inline it would stand on QEMU's command line."""
    entry = _domain().find("sysinfo[@type='fwcfg']/entry")
    assert entry is not None
    assert entry.get("name") == "opt/io.systemd.credentials/portal.personalisation"
    assert entry.get("file") == f"/pool/rt-{SPEC.runtime_id}.credential"
    assert entry.text is None


def test_processor_time_is_capped_per_vcpu() -> None:
    tune = _domain(spec=replace(SPEC, vcpus=2, cpu_percent=75)).find("cputune")
    assert tune is not None
    assert {each.tag: each.text for each in tune} == {"shares": "2048", "period": "100000", "quota": "75000"}


def test_the_hard_limit_stands_only_where_it_works() -> None:
    assert _domain().find("memtune") is None
    able = _domain(replace(HOST, capabilities=frozenset({"memory_hard_limit"})))
    assert able.findtext("memtune/hard_limit") == str(SPEC.memory_mib + 512)


def test_the_network_is_isolated_and_serves_nothing() -> None:
    root = parse(xml.network(HOST, SPEC))
    assert root.get("ipv6") == "no"
    assert root.find("forward") is None
    assert root.find(".//dhcp") is None
    assert root.find("dns").get("enable") == "no"  # type: ignore[union-attr]
    assert [each.attrib for each in root.iterfind("ip")] == [{"address": SPEC.host_address, "prefix": "30"}]


def test_the_filter_admits_two_ports_and_ends_in_drops() -> None:
    """The host connects to the agent's, the guest to the egress proxy's; both sides only answer otherwise."""
    root = parse(xml.packet_filter(HOST, SPEC))
    references = [each.get("filter") for each in root.iterfind("filterref")]
    assert references == ["no-mac-spoofing", "no-ip-spoofing", "no-arp-spoofing"]
    assert [_read(rule) for rule in root.iterfind("rule")] == [
        ("accept", "in", "ip", {"dst": "8443"}),
        ("accept", "in", "ip", {"src": "3128"}),
        ("accept", "out", "ip", {"src": "8443"}),
        ("accept", "out", "ip", {"dst": "3128"}),
        ("accept", "in", "arp", {}),
        ("accept", "out", "arp", {}),
        ("drop", "out", "tcp", {"dst": "3128"}),
        ("accept", "in", "tcp", {"dst": "8443"}),
        ("accept", "out", "tcp", {"dst": "3128"}),
        ("drop", "inout", "all", {}),
        ("drop", "inout", "all-ipv6", {}),
        ("drop", "inout", None, {}),
    ]
    for match in root.iterfind("rule[@action='accept']/*"):
        assert SPEC.host_address in match.attrib.values()
        assert match.get("connlimit-above") is None


def _read(rule: ET.Element) -> tuple[str | None, str | None, str | None, dict[str, str]]:
    """Action, direction, kind and ports of a rule; of a range, both ends must agree."""
    match = next(iter(rule), None)
    given = {} if match is None else match.attrib
    ports = {end: given[f"{end}portstart"] for end in ("src", "dst") if f"{end}portstart" in given}
    assert all(given[f"{end}portend"] == port for end, port in ports.items())
    return rule.get("action"), rule.get("direction"), None if match is None else match.tag, ports


def test_a_guest_cannot_fill_the_hosts_connection_table() -> None:
    root = parse(xml.packet_filter(HOST, SPEC))
    (limit,) = root.findall("rule/tcp[@connlimit-above]")
    assert limit.get("connlimit-above") == str(xml.MAX_PROXY_CONNECTIONS)
    assert limit.get("dstipaddr") == SPEC.host_address


def test_the_secret_stays_in_memory_and_is_never_given_back() -> None:
    assert parse(xml.secret(HOST, SPEC.runtime_id)).attrib == {"ephemeral": "yes", "private": "yes"}


def test_values_cannot_become_markup() -> None:
    """Everything is a node of a tree, even a command line or path that looks like XML."""
    hostile = "'/><disk x=\"]]>&amp;</cmdline>"
    spec = replace(SPEC, image=replace(SPEC.image, cmdline=hostile, directory=hostile))
    root = _domain(replace(HOST, pool_path=hostile), spec)
    assert root.findtext("os/cmdline") == hostile
    assert len(root.findall("devices/disk")) == 2


def test_no_text_of_a_tenant_has_a_way_in() -> None:
    """What the XML is made from has no free text but the image's, which is ours."""
    texts = {field.name for field in fields(RuntimeSpec) if field.type is str}
    assert texts == {"mac", "host_address", "guest_address"}


def test_nothing_is_pasted_together_as_markup() -> None:
    source = Path(xml.__file__).read_text()
    assert 'f"<' not in source
    assert "f'<" not in source


def test_the_mark_tells_a_changed_wish() -> None:
    """Same input, same digest; another memory size, another digest."""
    assert xml.domain(HOST, SPEC) == xml.domain(HOST, SPEC)
    mark = f"metadata/{{{xml.METADATA_URI}}}runtime"
    first, second = _domain().find(mark), _domain(spec=replace(SPEC, memory_mib=128)).find(mark)
    assert first is not None
    assert second is not None
    assert first.get("runtime") == str(SPEC.runtime_id)
    assert first.get("digest") != second.get("digest")


def test_filters_are_compared_by_meaning() -> None:
    text = xml.packet_filter(HOST, SPEC)
    assert same_rules(text, text.replace("><", ">\n  <"))
    assert not same_rules(text, xml.packet_filter(HOST, replace(SPEC, agent_port=1)))
    assert not same_rules(text, xml.packet_filter(HOST, replace(SPEC, egress_port=1)))


def test_two_runtimes_share_no_name() -> None:
    one, other = runtime(SPEC.image, 1, uuid4()), runtime(SPEC.image, 2, uuid4())
    assert xml.network(HOST, one) != xml.network(HOST, other)
    assert naming.filter_name("dtxml", one.runtime_id) != naming.filter_name("dtxml", other.runtime_id)
