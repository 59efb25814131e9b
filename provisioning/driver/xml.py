"""What libvirt is given: pure functions from specifications to XML.

Everything is built as a tree, never by pasting text, so a value cannot become markup. Where QEMU reads
a file, driver type and format are named, so that a guest cannot make the host guess them.
"""

import hashlib
import xml.etree.ElementTree as ET
from uuid import UUID

from provisioning.driver import naming
from provisioning.driver.types import Engine, HostSpec, RuntimeSpec

METADATA_URI = "urn:managed-host-portal:runtime"
CREDENTIAL = "opt/io.systemd.credentials/portal.personalisation"
_CPU_PERIOD_US = 100_000
_CPU_SHARES_PER_VCPU = 1024
_MEMORY_OVERHEAD_MIB = 512
"""Room above the guest's memory for QEMU itself, where a hard limit is set."""
MAX_PROXY_CONNECTIONS = 1024
"""How many connections to the egress proxy one guest may have open at a time."""
CPU_MODE = {Engine.KVM: "host-passthrough", Engine.QEMU: "maximum", Engine.TEST: "maximum"}

ET.register_namespace("portal", METADATA_URI)


def _add(
    parent: ET.Element, tag: str, text: str | int | None = None, /, **attributes: str | int
) -> ET.Element:
    child = ET.SubElement(parent, tag, {key: str(value) for key, value in attributes.items()})
    child.text = None if text is None else str(text)
    return child


def _text(root: ET.Element) -> str:
    return ET.tostring(root, encoding="unicode")


def _marked(root: ET.Element, fleet: str, runtime_id: UUID) -> str:
    """Render ``root`` with our mark: whose it is, and a digest that tells a later wish from this one."""
    digest = hashlib.sha256(_text(root).encode()).hexdigest()
    mark = {"fleet": fleet, "runtime": str(runtime_id), "digest": digest}
    metadata = ET.Element("metadata")
    ET.SubElement(metadata, f"{{{METADATA_URI}}}runtime", mark)
    root.insert(1, metadata)
    return _text(root)


def pool(host: HostSpec) -> str:
    """The fleet's directory pool."""
    return _directory_pool(naming.pool_name(host.fleet), host.pool_path)


def egress_pool(host: HostSpec) -> str:
    """The pool over the egress keeper's folder."""
    return _directory_pool(naming.egress_pool_name(host.fleet), host.egress_path)


def _directory_pool(name: str, path: str) -> str:
    root = ET.Element("pool", {"type": "dir"})
    _add(root, "name", name)
    _add(_add(root, "target"), "path", path)
    return _text(root)


def secret(host: HostSpec, runtime_id: UUID) -> str:
    """The passphrase's holder: in libvirtd's memory only (``ephemeral``), never given back (``private``)."""
    root = ET.Element("secret", {"ephemeral": "yes", "private": "yes"})
    _add(root, "uuid", str(naming.secret_uuid(runtime_id)))
    usage = _add(root, "usage", type="volume")
    _add(usage, "volume", naming.secret_usage(host.fleet, runtime_id))
    return _text(root)


def volume(spec: RuntimeSpec) -> str:
    """The data volume: qcow2 with LUKS inside, thin."""
    root = ET.Element("volume", {"type": "file"})
    _add(root, "name", naming.volume_name(spec.runtime_id))
    _add(root, "capacity", spec.disk_gib, unit="GiB")
    _add(root, "allocation", 0)
    target = _add(root, "target")
    _add(target, "format", type="qcow2")
    _add(target, "compat", "1.1")  # libvirt would choose 0.10, which cannot give zeroed clusters back
    _add(_add(target, "permissions"), "mode", "0600")
    encryption = _encryption(target, spec.runtime_id)
    # SHA-512 for the key derivation: QEMU times it first, and SHA-256 is so fast that a coarse clock reads 0.
    _add(encryption, "cipher", name="aes", size=256, mode="xts", hash="sha512")
    _add(encryption, "ivgen", name="plain64")
    return _text(root)


def raw_volume(name: str, size: int, mode: str = "0600") -> str:
    """A plain file of exactly ``size`` bytes; only its owner may read it unless ``mode`` says more."""
    root = ET.Element("volume", {"type": "file"})
    _add(root, "name", name)
    _add(root, "capacity", size, unit="bytes")
    target = _add(root, "target")
    _add(target, "format", type="raw")
    _add(_add(target, "permissions"), "mode", mode)
    return _text(root)


def _encryption(parent: ET.Element, runtime_id: UUID) -> ET.Element:
    encryption = _add(parent, "encryption", format="luks")
    _add(encryption, "secret", type="passphrase", uuid=str(naming.secret_uuid(runtime_id)))
    return encryption


def network(host: HostSpec, spec: RuntimeSpec) -> str:
    """An isolated bridge for one guest: not forwarded, no IPv6, no DHCP, no DNS, hence no dnsmasq."""
    root = ET.Element("network", {"ipv6": "no"})
    _add(root, "name", naming.network_name(host.fleet, spec.runtime_id))
    _add(root, "uuid", str(naming.network_uuid(spec.runtime_id)))
    _add(root, "bridge", name=naming.bridge_name(host.fleet, spec.network_index), stp="off", delay=0)
    _add(root, "dns", enable="no")
    _add(root, "ip", address=spec.host_address, prefix=spec.prefix)
    return _marked(root, host.fleet, spec.runtime_id)


def packet_filter(host: HostSpec, spec: RuntimeSpec) -> str:
    """Anti-spoofing, then what may pass between guest and the host's end of the link, then nothing.

    That is: the control plane connects to the agent's port, and the guest connects to the egress proxy's.

    A packet must pass two layers. The Ethernet rules (``ip``, ``arp``) see both directions but know no
    connections. The ``tcp`` rules do: a guest may only answer from the agent's port, even to the host, and
    the host only from the proxy's. They cannot see what the host itself sends, which never crosses the
    FORWARD chain, so neither layer suffices alone.
    """
    root = ET.Element("filter", {"name": naming.filter_name(host.fleet, spec.runtime_id), "chain": "root"})
    _add(root, "uuid", str(naming.filter_uuid(spec.runtime_id)))
    for built_in in ("no-mac-spoofing", "no-ip-spoofing", "no-arp-spoofing"):
        _add(root, "filterref", filter=built_in)
    outside, inside = spec.host_address, spec.guest_address
    incoming = {"srcipaddr": outside, "dstipaddr": inside, "protocol": "tcp"}
    outgoing = {"srcipaddr": inside, "dstipaddr": outside, "protocol": "tcp"}
    to_agent, from_agent = _port("dst", spec.agent_port), _port("src", spec.agent_port)
    to_proxy, from_proxy = _port("dst", spec.egress_port), _port("src", spec.egress_port)
    for ports in (to_agent, from_proxy):
        _add(_rule(root, "accept", "in", 100), "ip", **incoming, **ports)
    for ports in (from_agent, to_proxy):
        _add(_rule(root, "accept", "out", 100), "ip", **outgoing, **ports)
    _add(_rule(root, "accept", "in", 110), "arp", arpsrcipaddr=outside, arpdstipaddr=inside)
    _add(_rule(root, "accept", "out", 110), "arp", arpsrcipaddr=inside, arpdstipaddr=outside)
    # All guests share the host's connection table, so none may fill it.
    crowd = {"connlimit-above": str(MAX_PROXY_CONNECTIONS)}
    _add(_rule(root, "drop", "out", 190), "tcp", dstipaddr=outside, **to_proxy, **crowd)
    _add(_rule(root, "accept", "in", 200), "tcp", srcipaddr=outside, **to_agent)
    _add(_rule(root, "accept", "out", 200), "tcp", dstipaddr=outside, **to_proxy)
    _add(_rule(root, "drop", "inout", 900), "all")
    _add(_rule(root, "drop", "inout", 900), "all-ipv6")
    _rule(root, "drop", "inout", 1000)
    return _text(root)


def _port(end: str, port: int) -> dict[str, str]:
    return {f"{end}portstart": str(port), f"{end}portend": str(port)}


def _rule(parent: ET.Element, action: str, direction: str, priority: int) -> ET.Element:
    return _add(parent, "rule", action=action, direction=direction, priority=priority)


def domain(host: HostSpec, spec: RuntimeSpec) -> str:
    """The machine. No graphics, no USB, no readable console, no channel, no shared directory."""
    root = ET.Element("domain", {"type": host.engine.value})
    _add(root, "name", naming.domain_name(spec.runtime_id))
    _add(root, "uuid", str(spec.runtime_id))
    _resources(root, host, spec)
    _boot(root, host, spec)
    features = _add(root, "features")
    _add(features, "acpi")
    _add(features, "apic")
    _add(root, "cpu", mode=CPU_MODE[host.engine])
    _add(root, "clock", offset="utc")
    _add(root, "on_poweroff", "destroy")
    _add(root, "on_reboot", "restart")
    _add(root, "on_crash", "destroy")
    _devices(_add(root, "devices"), host, spec)
    return _marked(root, host.fleet, spec.runtime_id)


def _resources(root: ET.Element, host: HostSpec, spec: RuntimeSpec) -> None:
    _add(root, "memory", spec.memory_mib, unit="MiB")
    _add(root, "vcpu", spec.vcpus)
    if "memory_hard_limit" in host.capabilities:
        limit = spec.memory_mib + _MEMORY_OVERHEAD_MIB
        _add(_add(root, "memtune"), "hard_limit", limit, unit="MiB")
    tune = _add(root, "cputune")
    _add(tune, "shares", _CPU_SHARES_PER_VCPU * spec.vcpus)
    _add(tune, "period", _CPU_PERIOD_US)
    _add(tune, "quota", cpu_quota_us(spec))


def cpu_quota_us(spec: RuntimeSpec) -> int:
    """Of each period, for each vCPU."""
    return _CPU_PERIOD_US * spec.cpu_percent // 100


def bandwidth_kb(host: HostSpec, spec: RuntimeSpec) -> int | None:
    """What libvirt takes as a rate: kilobytes a second. None: no limit, or a host that enforces none."""
    if spec.bandwidth_mbit is None or "bandwidth" not in host.capabilities:
        return None
    return spec.bandwidth_mbit * 125


def _boot(root: ET.Element, host: HostSpec, spec: RuntimeSpec) -> None:
    sysinfo = _add(root, "sysinfo", type="fwcfg")
    papers = f"{host.pool_path}/{naming.personalisation_name(spec.runtime_id)}"
    # By file: as text it would stand on QEMU's command line, for every process of the host to read.
    _add(sysinfo, "entry", name=CREDENTIAL, file=papers)
    system = _add(root, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="q35")
    _add(system, "kernel", f"{spec.image.directory}/vmlinuz")
    _add(system, "initrd", f"{spec.image.directory}/initrd.img")
    _add(system, "cmdline", spec.image.cmdline)


def _devices(devices: ET.Element, host: HostSpec, spec: RuntimeSpec) -> None:
    system = _disk(devices, "raw", f"{spec.image.directory}/root.img", "vda", "root")
    _add(system, "readonly")
    # All tenants share this file: libvirt would give it to QEMU's user, for a guest that broke out to change.
    _add(system[1], "seclabel", model="dac", relabel="no")
    volume_path = f"{host.pool_path}/{naming.volume_name(spec.runtime_id)}"
    data = _disk(devices, "qcow2", volume_path, "vdb", "data")
    _encryption(data[1], spec.runtime_id)  # of the source, not of the disk
    if spec.iops is not None:
        _add(_add(data, "iotune"), "total_iops_sec", spec.iops)
    _add(devices, "controller", type="usb", model="none")
    _interface(devices, host, spec)
    _add(devices, "serial", type="null")
    balloon = _add(devices, "memballoon", model="virtio", autodeflate="on")
    _add(balloon, "stats", period=10)
    rng = _add(devices, "rng", model="virtio")
    _add(rng, "backend", "/dev/urandom", model="random")


def _disk(devices: ET.Element, form: str, path: str, target: str, serial: str) -> ET.Element:
    disk = _add(devices, "disk", type="file", device="disk")
    driver = _add(disk, "driver", name="qemu", type=form)
    if target == "vdb":
        driver.set("discard", "unmap")
    _add(disk, "source", file=path)
    _add(disk, "target", dev=target, bus="virtio")
    _add(disk, "serial", serial)
    return disk


def _interface(devices: ET.Element, host: HostSpec, spec: RuntimeSpec) -> None:
    interface = _add(devices, "interface", type="network")
    _add(interface, "mac", address=spec.mac)
    _add(interface, "source", network=naming.network_name(host.fleet, spec.runtime_id))
    _add(interface, "target", dev=naming.tap_name(host.fleet, spec.network_index))
    _add(interface, "model", type="virtio")
    reference = _add(interface, "filterref", filter=naming.filter_name(host.fleet, spec.runtime_id))
    _add(reference, "parameter", name="IP", value=spec.guest_address)
    if (rate := bandwidth_kb(host, spec)) is not None:
        bandwidth = _add(interface, "bandwidth")
        for way in ("inbound", "outbound"):
            _add(bandwidth, way, average=rate)
    _add(interface, "port", isolated="yes")
