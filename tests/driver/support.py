"""What the driver's tests share: specifications, one order of building, and its reverse."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

from provisioning.driver import ImageSpec, LibvirtDriver, RuntimeSpec
from provisioning.driver.simulated import TEST_URI, SimulatedDriver
from provisioning.driver.types import Engine, HostSpec, Inventory
from provisioning.egress.rules import Rules

PASSPHRASE = "correct-horse-battery-staple"
PAPERS = b'{"enrolment_secret":"d1ce5ca1ab1e"}'
DUMMY_AGENT = (
    sys.executable,
    "-c",
    "import time; time.sleep(600)",
    "{listen}",
    "{data}",
    "{personalisation}",
)
URIS = {Engine.TEST: TEST_URI, Engine.QEMU: "qemu:///system"}


def no_rules(fleet: str, generation: int = 1) -> bytes:
    """A rule document that serves nobody."""
    return Rules(generation, fleet, ()).to_bytes()


def engine_host(engine: Engine, fleet: str, pool: str) -> HostSpec:
    """A host whose egress keeper's folder lies beside the pool."""
    folder = Path(pool).parent / "egress"
    folder.mkdir(exist_ok=True)
    return HostSpec(URIS[engine], engine, fleet, pool, egress_path=str(folder))


Step = Callable[[LibvirtDriver, RuntimeSpec], bool]

ENSURES: dict[str, Step] = {
    "pool": lambda driver, _spec: driver.ensure_pool(),
    "secret": lambda driver, spec: driver.ensure_secret(spec, PASSPHRASE),
    "volume": lambda driver, spec: driver.ensure_volume(spec),
    "personalisation": lambda driver, spec: driver.ensure_personalisation(spec, PAPERS),
    "egress": lambda driver, _spec: driver.egress_put(1, no_rules(driver.host.fleet)),
    "network": lambda driver, spec: driver.ensure_network(spec),
    "filter": lambda driver, spec: driver.ensure_filter(spec),
    "domain": lambda driver, spec: driver.ensure_domain(spec),
    "start": lambda driver, spec: driver.start(spec),
}
REMOVES: dict[str, Step] = {
    "power": lambda driver, spec: driver.destroy(spec.runtime_id),
    "domain": lambda driver, spec: driver.remove_domain(spec.runtime_id),
    "personalisation": lambda driver, spec: driver.remove_personalisation(spec.runtime_id),
    "filter": lambda driver, spec: driver.remove_filter(spec.runtime_id),
    "network": lambda driver, spec: driver.remove_network(spec.runtime_id),
    "volume": lambda driver, spec: driver.remove_volume(spec.runtime_id),
    "secret": lambda driver, spec: driver.remove_secret(spec.runtime_id),
    "egress": lambda driver, _spec: driver.egress_remove(),
    "pool": lambda driver, _spec: driver.remove_pool(),
}
_NONE: frozenset[UUID] = frozenset()
EMPTY = Inventory(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE)


def whole(runtime_id: UUID) -> Inventory:
    """The inventory of a fleet that has exactly this runtime."""
    one = frozenset({runtime_id})
    return Inventory(one, one, one, one, one, one)


def open_driver(host: HostSpec) -> LibvirtDriver:
    """As `provisioning.driver.connect`, with a dummy for the agent."""
    return SimulatedDriver(host, DUMMY_AGENT) if host.engine is Engine.TEST else LibvirtDriver(host)


def runtime(image: ImageSpec, index: int = 7, runtime_id: UUID | None = None) -> RuntimeSpec:
    """A small runtime on the ``index``-th network."""
    return RuntimeSpec(
        runtime_id=runtime_id or uuid4(),
        tenant_id=uuid4(),
        vcpus=1,
        memory_mib=64,
        disk_gib=1,
        cpu_percent=50,
        iops=200,
        bandwidth_mbit=None,
        mac=f"52:54:00:d7:00:{index:02x}",
        network_index=index,
        host_address=f"10.215.7.{4 * index + 1}",
        guest_address=f"10.215.7.{4 * index + 2}",
        prefix=30,
        agent_port=8443,
        egress_port=3128,
        image=image,
    )


def build(driver: LibvirtDriver, spec: RuntimeSpec) -> dict[str, bool]:
    """Every step once, in order; which of them changed something."""
    return {name: step(driver, spec) for name, step in ENSURES.items()}


def change(driver: LibvirtDriver, spec: RuntimeSpec) -> list[bool]:
    """Other caps and a larger disk for a machine that runs; what of that changed something."""
    larger = replace(spec, cpu_percent=70, iops=900, disk_gib=2)
    return [driver.tune(larger), driver.grow_volume(larger)]


def remove(driver: LibvirtDriver, spec: RuntimeSpec) -> dict[str, bool]:
    """Take everything away; which of the steps changed something."""
    return {name: step(driver, spec) for name, step in REMOVES.items()}


def set_aside(driver: LibvirtDriver, spec: RuntimeSpec) -> dict[str, bool]:
    """Pause and unplug; which of the two changed something."""
    return {"suspend": driver.suspend(spec.runtime_id), "cut": driver.cut(spec.runtime_id)}
