"""Real guests that somebody with libvirt's socket changes behind the portal's back, and what becomes of them."""

import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest
from django.conf import settings

from audit.context import command
from provisioning.drift.check import check, look
from provisioning.drift.mend import mend
from provisioning.driver import connect, naming
from provisioning.driver.marks import parse
from provisioning.fleet import audit_fleet
from provisioning.models import DriftFinding, GuestImage, Host, Operation, Runtime
from provisioning.runtime_client import AgentUnreachable, RuntimeClient
from provisioning.services import operation_request, runtime_create
from provisioning.specs import host_spec, runtime_spec
from provisioning.tasks import drift_check
from tenants.models import Tenant
from tests.provisioning.workers import drain

pytestmark = [pytest.mark.guest, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
TESTER = command("test")
Kind, State, Phase = Operation.Kind, Operation.State, Runtime.Phase
BOOT_SECONDS = 400.0
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
FORCE = "<rule action='accept' direction='inout' priority='50'><all/></rule>"


def made(tenant: Tenant) -> Runtime:
    done = drain(runtime_create(actor=TESTER, tenant=tenant), BOOT_SECONDS)
    assert done.state == State.SUCCEEDED, done.error_message
    return Runtime.objects.get(tenant=tenant)


def released(runtime: Runtime) -> None:
    reason = "somebody looked at it and found it well"
    asked = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RELEASE, reason=reason)
    done = drain(asked, BOOT_SECONDS)
    assert done.state == State.SUCCEEDED, done.error_message
    runtime.refresh_from_db()
    assert runtime.phase == Phase.READY


def answers(runtime: Runtime) -> bool:
    try:
        return bool(RuntimeClient.dial(runtime).status()["runtime_id"] == str(runtime.pk))
    except AgentUnreachable:
        return False


@dataclass
class Intruder:
    """Somebody with libvirt's read-write socket, and one guest that they are after."""

    raw: libvirt.virConnect
    runtime: Runtime
    host: Host

    @property
    def domain(self) -> libvirt.virDomain:
        return self.raw.lookupByName(naming.domain_name(self.runtime.pk))

    def interface(self, change: Callable[[ET.Element], object]) -> None:
        """Change the running machine's interface."""
        interface = parse(self.domain.XMLDesc(0)).find("devices/interface")
        assert interface is not None
        change(interface)
        self.domain.updateDeviceFlags(ET.tostring(interface, encoding="unicode"), LIVE)

    def definition(self, old: str, new: str) -> None:
        """Change what would start next."""
        text = self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert old in text
        self.raw.defineXML(text.replace(old, new, 1))

    def filter(self, old: str, new: str) -> None:
        """Change the packet filter, which takes effect at once."""
        name = naming.filter_name(settings.FLEET_ID, self.runtime.pk)
        text = self.raw.nwfilterLookupByName(name).XMLDesc(0)
        assert old in text
        self.raw.nwfilterDefineXML(text.replace(old, new, 1))

    def untie(self) -> None:
        """Take the filter's rules off the tap; the definition still names it."""
        (binding,) = [
            each for each in self.raw.listAllNWFilterBindings() if str(self.runtime.pk) in each.XMLDesc(0)
        ]
        self.kept = binding.XMLDesc(0)
        binding.delete()

    def tie(self) -> None:
        self.raw.nwfilterBindingCreateXML(self.kept)

    def bridge_port(self, add: bool) -> None:
        """Put another device on the bridge, without libvirt."""
        bridge = naming.bridge_name(settings.FLEET_ID, self.runtime.network_index)
        words = (
            ("add drifttest type veth peer name drifttesu", f"set drifttest master {bridge}")
            if add
            else ("del drifttest",)
        )
        for each in words:
            subprocess.run(["ip", "link", *each.split()], check=True)


def unfiltered(interface: ET.Element) -> None:
    interface.remove(interface.find("filterref"))  # type: ignore[arg-type]


def filtered(runtime: Runtime) -> Callable[[ET.Element], None]:
    def put(interface: ET.Element) -> None:
        name = naming.filter_name(settings.FLEET_ID, runtime.pk)
        reference = ET.SubElement(interface, "filterref", filter=name)
        ET.SubElement(reference, "parameter", name="IP", value=runtime_spec(runtime).guest_address)

    return put


def link(state: str) -> Callable[[ET.Element], None]:
    def put(interface: ET.Element) -> None:
        for old in interface.findall("link"):
            interface.remove(old)
        ET.SubElement(interface, "link", state=state)

    return put


SHARE = "<filesystem type='mount'><source dir='/etc'/><target dir='host'/></filesystem>"
CHANGES: dict[str, tuple[Callable[[Intruder], object], Callable[[Intruder], object], set[str]]] = {
    "filter taken off the interface": (
        lambda who: who.interface(unfiltered),
        lambda who: who.interface(filtered(who.runtime)),
        {"filter_reference", "filter_loose"},
    ),
    "filter untied from the tap": (Intruder.untie, Intruder.tie, {"filter_loose"}),
    "filter's rules changed": (
        lambda who: who.filter("</filter>", f"{FORCE}</filter>"),
        lambda who: None,
        {"filter_changed"},
    ),
    "folder shared at the next start": (
        lambda who: who.definition("<controller type='usb'", f"{SHARE}<controller type='usb'"),
        lambda who: None,
        {"shared_files"},
    ),
    "processor cap lifted": (
        lambda who: who.domain.setSchedulerParametersFlags({"vcpu_quota": -1}, LIVE),
        lambda who: who.domain.setSchedulerParametersFlags({"vcpu_quota": 100_000}, LIVE),
        {"limits"},
    ),
    "device on the bridge": (
        lambda who: who.bridge_port(True),
        lambda who: who.bridge_port(False),
        {"bridge_shared"},
    ),
    "unplugged": (lambda who: who.interface(link("down")), lambda who: who.interface(link("up")), {"link"}),
    "started with the host": (
        lambda who: who.domain.setAutostart(1),
        lambda who: who.domain.setAutostart(0),
        {"autostart"},
    ),
}


def codes(host: Host, runtime: Runtime) -> set[str]:
    report = look(host, [runtime.pk])
    assert report.problem == ""
    return {each.code for each in report.of_runtimes[runtime.pk]}


def test_what_is_changed_behind_the_portals_back(
    real_host: Host,
    real_image: GuestImage,
    tenant: Tenant,
    make_tenant: Callable[..., Tenant],
) -> None:
    """Each change is found; the grave ones pause and unplug, the neighbour runs on, a release makes all anew."""
    victim, neighbour = made(tenant), made(make_tenant("birch"))
    raw = libvirt.open(settings.LIBVIRT_URI)
    who = Intruder(raw, victim, real_host)
    assert codes(real_host, victim) | codes(real_host, neighbour) == set(), "as made, nothing is wrong"

    # One after the other, each found by itself.
    spec, wanted = host_spec(real_host), runtime_spec(victim)
    seen: dict[str, object] = {}
    for name, (do, undo, expected) in CHANGES.items():
        do(who)
        seen[name] = (codes(real_host, victim), codes(real_host, neighbour)) == (expected, set())
        if not seen[name]:
            seen[name] = look(real_host, [victim.pk, neighbour.pk]).of_runtimes
        undo(who)
        with connect(spec) as driver:
            driver.ensure_filter(wanted)
            driver.ensure_domain(wanted)
        seen[f"{name}: undone"] = codes(real_host, victim) or True
    assert seen == dict.fromkeys(seen, True)
    assert answers(victim)

    # Small things are mended while it runs.
    who.domain.setAutostart(1)
    who.interface(link("down"))
    assert not answers(victim)
    assert mend(check(real_host), TESTER) == [f"{victim}: mended"]
    assert codes(real_host, victim) == set()
    assert answers(victim)

    # A second interface, plugged into the neighbour's own network.
    theirs = naming.network_name(settings.FLEET_ID, neighbour.pk)
    who.domain.attachDeviceFlags(
        f"<interface type='network'><source network='{theirs}'/><model type='virtio'/></interface>", LIVE
    )
    began = time.monotonic()
    drift_check()
    took = time.monotonic() - began
    victim.refresh_from_db()
    neighbour.refresh_from_db()
    assert (victim.phase, victim.power, neighbour.phase) == (Phase.QUARANTINED, "paused", Phase.READY)
    grave = DriftFinding.objects.filter(cleared_at=None, severity="quarantine")
    assert {(each.runtime_id, each.code) for each in grave} == {
        (victim.pk, "interface"),
        (victim.pk, "filter_loose"),
    }
    assert who.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    plugs = parse(who.domain.XMLDesc(0)).findall("devices/interface")
    assert len(plugs) == 2
    for plug in plugs:
        assert plug.find("link[@state='down']") is not None
        tap = plug.find("target").get("dev")  # type: ignore[union-attr]
        monitor = who.domain.isActive() and Path(f"/sys/class/net/{tap}").exists()
        assert monitor, "set aside is not removed"
    assert not answers(victim)
    assert answers(neighbour), "the neighbour runs on"
    assert took < 30
    print(f"from check to paused and unplugged: {took:.2f} s")  # noqa: T201

    # Somebody resumes and plugs it in: it is paused again.
    who.domain.resume()
    who.interface(link("up"))
    drift_check()
    assert who.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED

    released(victim)
    assert codes(real_host, victim) == set()
    assert answers(victim)
    assert len(parse(who.domain.XMLDesc(0)).findall("devices/interface")) == 1

    # QEMU itself, past libvirt's definition; and a disk of the host.
    secret = Path(settings.POOL_DIR) / "drift-test.img"
    secret.write_bytes(b"\0" * 1024**2)
    try:
        who.domain.attachDeviceFlags(
            f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{secret}'/>"
            "<target dev='vdc' bus='virtio'/></disk>",
            LIVE,
        )
        assert codes(real_host, victim) == {"disk"}
        drift_check()
        victim.refresh_from_db()
        assert victim.phase == Phase.QUARANTINED
        assert who.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    finally:
        who.domain.destroy()
        secret.unlink()
    assert answers(neighbour)
    assert audit_fleet() == []
    raw.close()
