"""What the driver is told, what it answers, and how it fails. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Engine(StrEnum):
    """What runs the guests of a host."""

    KVM = "kvm"
    QEMU = "qemu"
    """QEMU's own translator (TCG): real machines, slow."""
    TEST = "test"
    """libvirt's simulated driver: no machine at all."""


class Power(StrEnum):
    """What libvirt shows of a machine. ``UNKNOWN`` is a state that a later libvirt may bring."""

    RUNNING = "running"
    OFF = "off"
    PAUSED = "paused"
    CRASHED = "crashed"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class HostSpec:
    """One hypervisor."""

    uri: str
    engine: Engine
    fleet: str
    """``[a-z0-9]{4,8}``; separates installations that share one libvirtd."""
    pool_path: str
    """Directory on the host that holds the fleet's volumes."""
    capabilities: frozenset[str] = frozenset()
    """What the probe found to work: ``bandwidth``, ``memory_hard_limit``."""
    egress_path: str = ""
    """Directory on the host through which its egress keeper is spoken to; empty: guests have no way out."""


@dataclass(frozen=True)
class ImageSpec:
    """A guest image: ``vmlinuz``, ``initrd.img`` and ``root.img`` in one directory of the host."""

    version: str
    directory: str
    sha256: Mapping[str, str]
    """File name to lower-case hex digest."""
    cmdline: str


@dataclass(frozen=True)
class RuntimeSpec:
    """One tenant's machine. Every value is chosen by the control plane, none by the tenant."""

    runtime_id: UUID
    tenant_id: UUID
    vcpus: int
    memory_mib: int
    disk_gib: int
    cpu_percent: int
    """Cap per vCPU; 100 is a whole core."""
    iops: int | None
    """Cap on the data volume's operations per second."""
    bandwidth_mbit: int | None
    """Cap on the interface's traffic, each way; only where the host has the capability ``bandwidth``."""
    mac: str
    network_index: int
    host_address: str
    guest_address: str
    prefix: int
    agent_port: int
    egress_port: int
    """Where the egress proxy listens, on ``host_address``: the one thing that the guest may reach."""
    image: ImageSpec


@dataclass(frozen=True)
class Capacity:
    """What a host offers to the fleet in all, before anything is reserved."""

    vcpus: int
    memory_mib: int
    disk_gib: int
    """What the fleet's volumes occupy plus what is free beside them."""


@dataclass(frozen=True)
class Inventory:
    """Runtime ids of everything that carries this fleet's mark, by kind of object."""

    domains: frozenset[UUID]
    networks: frozenset[UUID]
    filters: frozenset[UUID]
    volumes: frozenset[UUID]
    personalisations: frozenset[UUID]
    secrets: frozenset[UUID]
    unknown_domains: frozenset[str] = frozenset()
    """Names of machines called ``rt-…`` that carry no fleet's mark."""


@dataclass(frozen=True)
class Binding:
    """A packet filter as it is really tied to a device of the host."""

    device: str
    filter: str
    address: str
    """The guest's address that the rules were made with."""


@dataclass(frozen=True)
class Shown:
    """All that a host shows of one runtime. Texts are libvirt's XML; None where there is no such object."""

    power: Power
    marked: bool = True
    """Whether the machine carries this fleet's mark; without it, it is known by the runtime's UUID."""
    live: str | None = None
    """The machine as it runs; None while it is off."""
    defined: str | None = None
    """The machine as it would start next."""
    autostart: bool = False
    taints: tuple[str, ...] = ()
    """What libvirt says was done to the running machine behind its definition's back."""
    filter: str | None = None
    bindings: tuple[Binding, ...] | None = ()
    """The filters tied to its interfaces; None where the host has no such thing."""
    network: str | None = None
    network_defined: str | None = None
    network_active: bool = False
    network_autostart: bool = False
    ports: tuple[str, ...] | None = None
    """The devices on the runtime's bridge; None where they cannot be seen from here."""
    volume: str | None = None


@dataclass(frozen=True)
class HostShown:
    """What a host shows of itself. None where something is absent or cannot be seen from here."""

    pool_path: str | None
    pool_running: bool
    pool_autostart: bool
    bridge_rules: bool | None
    """Whether the kernel shows bridged packets to the firewall, which filters on connections need."""


@dataclass(frozen=True)
class User:
    """A machine of the host, whosever it is, with what it stands on."""

    name: str
    running: bool
    files: frozenset[str]
    networks: frozenset[str]
    bridges: frozenset[str]
    taps: frozenset[str] = frozenset()
    """The host's ends of its interfaces."""


class DriverError(Exception):
    """Something failed on the host.

    ``code`` is for programs, ``message`` for people and says what to change, ``retryable`` tells
    whether the same call may succeed later with nothing changed. Neither ever carries a secret.
    """

    code = "driver_error"
    retryable = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class HostUnreachable(DriverError):
    """libvirt does not answer, or the connection broke during a call whose outcome is unknown."""

    code = "host_unreachable"
    retryable = True


class HostBusy(DriverError):
    """libvirt is doing something that excludes this call."""

    code = "host_busy"
    retryable = True


class ImageMissing(DriverError):
    """A file of the guest image is not there."""

    code = "image_missing"


class ImageCorrupt(DriverError):
    """A file of the guest image is not what was registered."""

    code = "image_corrupt"


class NoSpace(DriverError):
    """The pool's disk is too full."""

    code = "no_space"


class Conflict(DriverError):
    """An object has our name but is not ours, or is in a state that forbids the call."""

    code = "conflict"


class Unsupported(DriverError):
    """This host cannot do what was asked."""

    code = "unsupported"


class CallFailed(DriverError):
    """Any other refusal by libvirt, in its words."""

    code = "call_failed"
