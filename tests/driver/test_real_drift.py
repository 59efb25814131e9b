"""Real QEMU with a kernel of a few KiB: what libvirt shows after changes that need no guest to answer.

tests/e2e/test_drift.py has the same with real guests, and what follows from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest

from provisioning.drift.check import judged
from provisioning.drift.machine import is_set_aside
from provisioning.driver import LibvirtDriver, RuntimeSpec, naming, xml
from provisioning.models import Told
from tests.driver.support import build, set_aside

pytestmark = pytest.mark.guest
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG


@dataclass
class Held:
    """A running machine, and libvirt as an intruder has it."""

    driver: LibvirtDriver
    spec: RuntimeSpec
    file: Path

    @property
    def domain(self) -> libvirt.virDomain:
        return self.driver._conn.lookupByUUIDString(str(self.spec.runtime_id))

    def found(self) -> set[str]:
        host, spec = self.driver.host, self.spec
        machine = xml.domain(host, spec)
        told = Told(
            machine=machine,
            running=machine,
            filter=xml.packet_filter(host, spec),
            network=xml.network(host, spec),
        )
        return {each.code for each in judged(self.driver.show(spec.runtime_id), host, spec, told)}

    def monitor(self) -> None:
        """QEMU's own monitor, past libvirt's definition."""
        import libvirt_qemu

        libvirt_qemu.qemuMonitorCommand(
            self.domain, "info status", libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        )

    def disk(self) -> str:
        return (
            f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{self.file}'/>"
            "<target dev='vdc' bus='virtio'/></disk>"
        )


@pytest.fixture
def held(real: LibvirtDriver, spec: RuntimeSpec, place: Path) -> Held:
    build(real, spec)
    file = place / "foreign.img"
    file.write_bytes(b"\0" * 1024**2)
    file.chmod(0o666)
    return Held(real, spec, file)


SHARE = "<filesystem type='mount'><source dir='/etc'/><target dir='host'/></filesystem>"
CHANGES: dict[str, tuple[Callable[[Held], object], str]] = {
    "a disk of the host": (lambda held: held.domain.attachDeviceFlags(held.disk(), LIVE), "disk"),
    "a disk at the next start": (lambda held: held.domain.attachDeviceFlags(held.disk(), CONFIG), "disk"),
    "a shared folder": (lambda held: held.domain.attachDeviceFlags(SHARE, CONFIG), "shared_files"),
    "an interface": (
        lambda held: held.domain.attachDeviceFlags(
            f"<interface type='bridge'><source bridge='{naming.bridge_name(held.driver.host.fleet, 7)}'/>"
            "<model type='virtio'/></interface>",
            LIVE,
        ),
        "interface",
    ),
    "QEMU's monitor": (Held.monitor, "taint"),
    "more processor": (
        lambda held: held.domain.setSchedulerParametersFlags({"vcpu_quota": -1}, LIVE),
        "limits",
    ),
    "started with the host": (lambda held: held.domain.setAutostart(1), "autostart"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_past_the_portal_is_shown(held: Held, name: str) -> None:
    change, code = CHANGES[name]
    assert held.found() == set()
    change(held)
    assert code in held.found()


def test_all_is_paused_and_unplugged_also_what_was_added(held: Held) -> None:
    CHANGES["an interface"][0](held)
    assert set_aside(held.driver, held.spec) == {"suspend": True, "cut": True}
    assert is_set_aside(held.driver.show(held.spec.runtime_id))
    assert held.domain.XMLDesc(0).count("<link state='down'/>") == 2


def test_a_settled_machine_is_plugged_in_and_waits_for_the_portal(held: Held) -> None:
    held.driver.cut(held.spec.runtime_id)
    held.domain.setAutostart(1)
    assert {"link", "autostart"} <= held.found()
    assert held.driver.settle(held.spec.runtime_id) is True
    assert held.driver.settle(held.spec.runtime_id) is False
    held.driver.ensure_domain(held.spec)
    assert held.found() == set()
