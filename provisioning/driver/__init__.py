"""Everything that touches a hypervisor. Knows no Django and no database.

``with connect(host_spec) as driver: driver.ensure_pool()``…
"""

from provisioning.driver.faults import FAULT_POINTS, InjectedFault, fault_point
from provisioning.driver.libvirt_driver import LibvirtDriver
from provisioning.driver.simulated import SimulatedDriver
from provisioning.driver.types import (
    Binding,
    CallFailed,
    Capacity,
    Conflict,
    DriverError,
    Engine,
    HostBusy,
    HostShown,
    HostSpec,
    HostUnreachable,
    ImageCorrupt,
    ImageMissing,
    ImageSpec,
    Inventory,
    NoSpace,
    Power,
    RuntimeSpec,
    Shown,
    Unsupported,
    User,
)


def connect(host: HostSpec) -> LibvirtDriver:
    """Open the driver that fits the host's engine; use it with ``with``, in this process only.

    Raises:
        HostUnreachable: libvirt does not answer.
        ValueError: the fleet id is malformed.
    """
    return SimulatedDriver(host) if host.engine is Engine.TEST else LibvirtDriver(host)


__all__ = [
    "FAULT_POINTS",
    "Binding",
    "CallFailed",
    "Capacity",
    "Conflict",
    "DriverError",
    "Engine",
    "HostBusy",
    "HostShown",
    "HostSpec",
    "HostUnreachable",
    "ImageCorrupt",
    "ImageMissing",
    "ImageSpec",
    "InjectedFault",
    "Inventory",
    "LibvirtDriver",
    "NoSpace",
    "Power",
    "RuntimeSpec",
    "Shown",
    "SimulatedDriver",
    "Unsupported",
    "User",
    "connect",
    "fault_point",
]
