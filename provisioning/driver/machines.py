"""The machine itself, through libvirt."""

import time
import xml.etree.ElementTree as ET
from functools import partial
from typing import Any
from uuid import UUID

import libvirt

from provisioning.driver import naming, xml
from provisioning.driver.connection import found
from provisioning.driver.faults import around
from provisioning.driver.likeness import differences
from provisioning.driver.marks import Mark, attribute, belongs, mark_of, parse
from provisioning.driver.types import Conflict, HostSpec, Power, RuntimeSpec

_POWER = {
    libvirt.VIR_DOMAIN_RUNNING: Power.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: Power.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: Power.RUNNING,  # on its way down, and still there
    libvirt.VIR_DOMAIN_PAUSED: Power.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Power.PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: Power.OFF,
    libvirt.VIR_DOMAIN_CRASHED: Power.CRASHED,
}
_NO_SUPPORT = libvirt.VIR_ERR_NO_SUPPORT
_CRASH_REASONS = {libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED}


START_UP_SECONDS = 30.0
"""How long a start that a dead worker began may take: opening the encrypted volume needs seconds."""
_STARTING = {libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, libvirt.VIR_DOMAIN_PAUSED_UNKNOWN}


def find(conn: Any, runtime_id: UUID) -> Any | None:
    """The machine of that name, whosever it is, or None."""
    name = naming.domain_name(runtime_id)
    return found(lambda: conn.lookupByName(name), libvirt.VIR_ERR_NO_DOMAIN)


def find_ours(conn: Any, host: HostSpec, runtime_id: UUID) -> Any | None:
    """The runtime's machine, or None. One whose mark was taken off or altered is known by its UUID.

    Raises:
        Conflict: one of that name is another fleet's, or has neither our mark nor the runtime's UUID.
    """
    domain = find(conn, runtime_id)
    marks = None if domain is None else _marks(domain)
    if domain is None or marks is None:
        return None
    ours = any(belongs(mark, host.fleet, runtime_id) for mark in marks)
    if not ours and not _is_runtimes_own(domain, marks, host, runtime_id):
        raise Conflict(
            f"The machine {domain.name()} does not carry this fleet's mark. Look at it, then remove it."
        )
    return domain


def _is_runtimes_own(domain: Any, marks: list[Mark], host: HostSpec, runtime_id: UUID) -> bool:
    """Whether a machine without a good mark is the runtime's all the same.

    Its UUID says so, unless its mark names another fleet: that may have a copy of our database. Then its
    network or filter, whose names carry the fleet, must be ours.
    """
    if domain.UUIDString() != str(runtime_id):
        return False
    return all(mark.fleet == host.fleet for mark in marks) or _stands_on_ours(domain, host, runtime_id)


def _stands_on_ours(domain: Any, host: HostSpec, runtime_id: UUID) -> bool:
    network = naming.network_name(host.fleet, runtime_id)
    rules = naming.filter_name(host.fleet, runtime_id)
    for form in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        text = found(partial(domain.XMLDesc, form), libvirt.VIR_ERR_NO_DOMAIN)
        for interface in parse(text).findall("devices/interface") if text is not None else ():
            if network == attribute(interface, "source", "network"):
                return True
            if rules == attribute(interface, "filterref", "filter"):
                return True
    return False


def is_marked(domain: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Whether the machine carries the runtime's mark, as this fleet makes it."""
    return any(belongs(mark, host.fleet, runtime_id) for mark in _marks(domain) or ())


def _marks(domain: Any) -> list[Mark] | None:
    """The machine's mark, if it has one; None if it was removed since it was looked up or listed."""
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml.METADATA_URI, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return []
        raise
    mark = mark_of(parse(text))
    return [] if mark is None else [mark]


def ensure(conn: Any, host: HostSpec, spec: RuntimeSpec) -> bool:
    """Define the machine if missing, changed by others, or if our wish has changed; a running one keeps its
    form till restart.
    """
    wanted = xml.domain(host, spec)
    domain = find_ours(conn, host, spec.runtime_id)
    if domain is not None:
        defined = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        root, ours = parse(defined), parse(wanted)
        path = "devices/interface/mac"
        there, here = attribute(root, path, "address"), attribute(ours, path, "address")
        if there != here:
            raise Conflict(
                f"The machine {domain.name()} has the MAC {there}, expected {here}. Remove it first."
            )
        if mark_of(root) == mark_of(ours) and not differences(wanted, defined):
            return False
    with around("domain.define"):
        conn.defineXMLFlags(wanted, 0)
    return True


def remove(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Undefine the machine; False if there is none.

    Raises:
        Conflict: it runs.
    """
    domain = find_ours(conn, host, runtime_id)
    if domain is None:
        return False
    if domain.isActive():
        raise Conflict(f"The machine {domain.name()} runs. Shut it down or destroy it first.")
    with around("domain.undefine"):
        domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        )
    return True


def start(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Power on; False if it runs.

    Raises:
        Conflict: not defined, or paused.
    """
    domain = find_ours(conn, host, runtime_id)
    if domain is None:
        raise Conflict(
            f"The machine {naming.domain_name(runtime_id)} is not defined. Run ensure_domain first."
        )
    if _settled_power(domain) is Power.PAUSED:
        raise Conflict(
            f"The machine {domain.name()} is paused. Find out why (a full disk?), then destroy or resume it."
        )
    if domain.isActive():
        return False
    try:
        with around("domain.start"):
            domain.createWithFlags(0)
    except libvirt.libvirtError as error:
        # A call of a worker that died may have been under way when we looked.
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID and domain.isActive():
            return False
        raise
    return True


def _settled_power(domain: Any) -> Power:
    """The power, once a start that is under way has ended: until then libvirt shows the machine as paused."""
    deadline = time.monotonic() + START_UP_SECONDS
    while (power := power_of(domain)) is Power.PAUSED and time.monotonic() < deadline:
        if domain.state()[1] not in _STARTING:
            break
        time.sleep(0.1)
    return power


def request_shutdown(conn: Any, host: HostSpec, runtime_id: UUID, flags: int) -> bool:
    """Press the power button; False if it is off or absent."""
    domain = find_ours(conn, host, runtime_id)
    if domain is None or not domain.isActive():
        return False
    return _unless_off(domain, "domain.shutdown", lambda: domain.shutdownFlags(flags))


def suspend(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Stop the machine's processors; its memory stays as it is. False if none of them runs."""
    domain = find_ours(conn, host, runtime_id)
    if domain is None or not domain.isActive() or power_of(domain) is Power.PAUSED:
        return False
    return _unless_off(domain, "domain.suspend", domain.suspend)


def cut(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Unplug every interface of the machine, also those that are not ours, now and at a next start.

    False if all were unplugged already.
    """
    domain, changed = find_ours(conn, host, runtime_id), False
    if domain is None:
        return False
    for form, flag in _forms(domain):
        for interface in parse(domain.XMLDesc(form)).findall("devices/interface"):
            if interface.find("link[@state='down']") is None:
                with around("domain.cut"):
                    domain.updateDeviceFlags(_with_link(interface, "down"), flag)
                changed = True
    return changed


def settle(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Plug the running machine in, and have it wait for us when the host starts. False if that is so."""
    domain = find_ours(conn, host, runtime_id)
    if domain is None:
        return False
    changed = False
    if domain.autostart():
        with around("domain.autostart"):
            domain.setAutostart(0)
        changed = True
    live = parse(domain.XMLDesc(0)) if domain.isActive() else None
    for interface in live.findall("devices/interface") if live is not None else ():
        if interface.find("link[@state='down']") is not None:
            with around("domain.plug"):
                domain.updateDeviceFlags(_with_link(interface, "up"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
            changed = True
    return changed


def _with_link(interface: ET.Element, state: str) -> str:
    link = interface.find("link")
    if link is None:
        link = ET.SubElement(interface, "link")
    link.set("state", state)
    return ET.tostring(interface, encoding="unicode")


def _forms(domain: Any) -> list[tuple[int, int]]:
    """Which of its forms a machine has: how each is read, and how each is changed."""
    running = [(0, libvirt.VIR_DOMAIN_AFFECT_LIVE)] if domain.isActive() else []
    return [*running, (libvirt.VIR_DOMAIN_XML_INACTIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)]


def destroy(conn: Any, host: HostSpec, runtime_id: UUID) -> bool:
    """Cut the power; False if it is off or absent."""
    domain = find_ours(conn, host, runtime_id)
    if domain is None or not domain.isActive():
        return False
    return _unless_off(domain, "domain.destroy", lambda: domain.destroyFlags(0))


def _unless_off(domain: Any, call: str, action: Any) -> bool:
    try:
        with around(call):
            action()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID and not domain.isActive():
            return False  # it went off by itself between look and call
        raise
    return True


def power_of(domain: Any) -> Power:
    """What libvirt shows; ABSENT if it was removed since it was looked up."""
    state = found(lambda: domain.state(0), libvirt.VIR_ERR_NO_DOMAIN)
    if state is None:
        return Power.ABSENT
    if state[0] == libvirt.VIR_DOMAIN_SHUTOFF and state[1] in _CRASH_REASONS:
        return Power.CRASHED
    return _POWER.get(state[0], Power.UNKNOWN)


def host_size(conn: Any) -> tuple[int, int]:
    """The host's processors and its memory in MiB.

    libvirt's ``getInfo`` takes the memory from the NUMA nodes, which is too little where memory was added
    at run time; the statistics come from ``/proc/meminfo``, but the test driver has none.
    """
    _model, memory_mib, cpus, *_rest = conn.getInfo()
    statistics = found(lambda: conn.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0), _NO_SUPPORT)
    return cpus, statistics["total"] // 1024 if statistics else memory_mib


def listed(conn: Any, host: HostSpec) -> tuple[dict[UUID, Any], frozenset[str]]:
    """The fleet's machines by runtime id, and the names of ``rt-…`` machines that nobody's mark explains."""
    ours: dict[UUID, Any] = {}
    unknown: set[str] = set()
    for domain in conn.listAllDomains(0):
        name = domain.name()
        if not name.startswith(naming.PREFIX):
            continue
        runtime_id, marks = naming.runtime_of(name, naming.PREFIX), _marks(domain)
        if marks is None:
            continue  # gone since it was listed
        if not marks or runtime_id is None:
            unknown.add(name)
        elif belongs(marks[0], host.fleet, runtime_id):
            ours[runtime_id] = domain
    return ours, frozenset(unknown)
