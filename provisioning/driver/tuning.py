"""What changes on a machine that runs: its caps, and the size of its data volume."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import libvirt

from provisioning.driver import machines, naming, storage, xml
from provisioning.driver.faults import around
from provisioning.driver.types import Conflict, HostSpec, RuntimeSpec

_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
DATA = "vdb"
"""The data volume, as the machine knows it."""


@dataclass(frozen=True)
class _Knob:
    """A group of limits: how libvirt tells what they are now, what they should be, and how it sets them."""

    read: Callable[[], dict[str, int]]
    wanted: dict[str, int]
    write: Callable[[dict[str, int]], object]


def tune(conn: Any, host: HostSpec, spec: RuntimeSpec) -> bool:
    """Set the running machine's caps; what is right already is left alone.

    Raises:
        Conflict: the machine is off or not defined.
    """
    domain, changed = running(conn, host, spec.runtime_id), False
    for knob in _knobs(host, spec, domain):
        there = knob.read()
        if any(there.get(name) != value for name, value in knob.wanted.items()):
            with around("domain.tune"):
                knob.write(knob.wanted)
            changed = True
    return changed


def _knobs(host: HostSpec, spec: RuntimeSpec, domain: Any) -> list[_Knob]:
    # 0 is libvirt's word for no limit.
    rate = xml.bandwidth_kb(host, spec) or 0
    return [
        _Knob(
            lambda: domain.schedulerParametersFlags(_LIVE),
            {"vcpu_quota": xml.cpu_quota_us(spec)},
            lambda wanted: domain.setSchedulerParametersFlags(wanted, _LIVE),
        ),
        _Knob(
            lambda: domain.blockIoTune(DATA, _LIVE),
            {"total_iops_sec": spec.iops or 0},
            lambda wanted: domain.setBlockIoTune(DATA, wanted, _LIVE),
        ),
        _Knob(
            lambda: domain.interfaceParameters(spec.mac, _LIVE),
            {"inbound.average": rate, "outbound.average": rate},
            lambda wanted: domain.setInterfaceParameters(spec.mac, wanted, _LIVE),
        ),
    ]


def grow(conn: Any, host: HostSpec, spec: RuntimeSpec) -> bool:
    """Let the running machine's data volume grow to ``spec``. A larger one stays: shrinking cuts files off.

    Raises:
        Conflict: the machine is off; only one that runs has the volume's key.
        NoSpace: less is free than the volume may grow by.
    """
    domain = running(conn, host, spec.runtime_id)
    has, wanted = domain.blockInfo(DATA)[0], spec.disk_gib * storage.GIB
    if has >= wanted:
        return False
    storage.require_room(storage.active_pool(conn, host), wanted - has)
    with around("volume.resize"):
        domain.blockResize(DATA, wanted, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    return True


def running(conn: Any, host: HostSpec, runtime_id: UUID) -> Any:
    """The runtime's machine.

    Raises:
        Conflict: it is off or not defined.
    """
    domain = machines.find_ours(conn, host, runtime_id)
    if domain is None or not domain.isActive():
        raise Conflict(f"The machine {naming.domain_name(runtime_id)} does not run. Start it first.")
    return domain
