"""A change of plan on a real guest: caps while it runs, memory with a restart, a disk that really grows."""

import pytest

from audit.context import command
from provisioning.driver import connect
from provisioning.driver.tuning import DATA
from provisioning.fleet import audit_fleet
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.quotas import size_of
from provisioning.runtime_client import RuntimeClient
from provisioning.services import plan_change
from provisioning.specs import host_spec
from tenants.models import Plan, Tenant
from tenants.services import plan_save
from tests.provisioning.workers import created, drain

pytestmark = [pytest.mark.guest, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
TESTER = command("test")
BOOT_SECONDS = 400.0
GIB = 1024**3


def given(runtime: Runtime, slug: str, *, restart: bool = False, **more: int) -> Operation:
    """The machine, once it has another plan."""
    runtime.refresh_from_db()
    size = {**size_of(runtime), "cost_floor_cents": 100, **more}
    plan = plan_save(actor=TESTER, plan=Plan(slug=slug, name=slug, **size))
    asked = plan_change(actor=TESTER, tenant=runtime.tenant, plan=plan, price_cents=5000, restart=restart)
    assert asked is not None
    done = drain(asked, BOOT_SECONDS)
    assert done.state == Operation.State.SUCCEEDED, done.error_message
    runtime.refresh_from_db()
    return done


def limits(host: Host, runtime: Runtime) -> dict[str, int]:
    """What the running machine's process is held to: libvirt reads the first from the kernel, the rest from QEMU."""
    import libvirt

    with connect(host_spec(host)) as driver:
        domain = driver._conn.lookupByUUIDString(str(runtime.pk))
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        return {
            "quota": domain.schedulerParametersFlags(live)["vcpu_quota"],
            "iops": domain.blockIoTune(DATA, live)["total_iops_sec"],
            "memory": domain.maxMemory(),
            "disk": domain.blockInfo(DATA)[0],
            "qemu": domain.ID(),
        }


def test_a_guest_gets_what_its_plan_says(real_host: Host, real_image: GuestImage, tenant: Tenant) -> None:
    """At once: the same QEMU, the same boot, other limits. With a restart: the kernel sees the memory, and the
    file system fills the disk that grew before."""
    runtime = created(tenant, BOOT_SECONDS)
    portal = RuntimeClient.dial(runtime)
    boot, first = portal.status()["boot_id"], limits(real_host, runtime)
    assert (first["quota"], first["iops"], first["disk"]) == (100_000, 0, GIB)

    given(runtime, "tuned", cpu_percent=80, iops=900, disk_gib=2)
    now = limits(real_host, runtime)
    assert (now["quota"], now["iops"], now["disk"]) == (80_000, 900, 2 * GIB)
    assert now["qemu"] == first["qemu"]
    status = portal.status()
    assert status["boot_id"] == boot
    assert status["data_volume"]["size_bytes"] < GIB, "files get the room at the next start"

    given(runtime, "larger", memory_mib=704, cpu_percent=100, restart=True)
    now = limits(real_host, runtime)
    assert (now["quota"], now["iops"], now["memory"]) == (100_000, 900, 704 * 1024)
    portal = RuntimeClient.dial(runtime)
    status = portal.status()
    assert status["boot_id"] != boot
    assert status["memory"]["total_bytes"] > 600 * 1024**2
    assert _grown(portal) > 1.7 * GIB

    given(runtime, "whole", memory_mib=512, disk_gib=3, restart=True)
    assert _grown(RuntimeClient.dial(runtime)) > 2.6 * GIB, "grown before the guest looked at it"
    assert audit_fleet() == []


def _grown(portal: RuntimeClient) -> int:
    """The file system's size once it has filled its disk, which happens after the agent answers."""
    import time

    deadline, size = time.monotonic() + 60, 0
    while time.monotonic() < deadline:
        size, before = int(portal.status()["data_volume"]["size_bytes"]), size
        if size == before and size > 1.5 * GIB:
            return size
        time.sleep(0.5)
    return size
