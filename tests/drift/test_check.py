"""Drift on the simulated engine: found, written down, set aside once, and put right only by whoever may."""

import json
import logging
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from audit.context import Actor, command
from audit.models import Entry
from provisioning import machine
from provisioning.drift import check as checking
from provisioning.drift.check import check
from provisioning.driver import Conflict, DriverError, Unsupported, connect, naming, xml
from provisioning.driver.libvirt_driver import LibvirtDriver
from provisioning.driver.simulated import SimulatedDriver
from provisioning.fleet import audit_fleet
from provisioning.models import DriftFinding, Host, Operation, Runtime, Told
from provisioning.services import OperationRefused, PermissionRefused, operation_request
from provisioning.specs import host_spec, runtime_spec
from provisioning.tasks import drift_check
from tests.provisioning.workers import drain, move

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
Kind, State, Phase = Operation.Kind, Operation.State, Runtime.Phase
REASON = "somebody looked at it and found it well"
DISK = (
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/etc/shadow'/>"
    "<target dev='vdz' bus='virtio'/></disk>"
)
# Not «/»: lanes share the simulated driver, and a machine that has all files has those of the other lane's too.
SHARE = "<filesystem type='mount'><source dir='/srv'/><target dir='host'/></filesystem>"
Redefine = Callable[[str, str], None]


def ask(runtime: Runtime, kind: str, actor: Actor = TESTER) -> Operation:
    asked = operation_request(actor=actor, runtime_id=runtime.pk, kind=kind, reason=REASON)
    done = drain(asked)
    assert done.state == State.SUCCEEDED, done.error_message
    runtime.refresh_from_db()
    return done


def codes(host: Host) -> set[str]:
    return {each.code for found in check(host).of_runtimes.values() for each in found}


def power(host: Host, runtime: Runtime) -> str:
    with connect(host_spec(host)) as driver:
        return driver.power(runtime.pk).value


def everything() -> tuple[int, int, int]:
    return Entry.objects.count(), Operation.objects.count(), DriftFinding.objects.count()


def test_a_runtime_as_it_was_made_has_no_findings(runtime: Runtime, simulated_host: Host) -> None:
    """Ready, stopped, started anew and rebuilt; a check writes nothing."""
    for kind in (None, Kind.STOP, Kind.START, Kind.RESTART, Kind.REBUILD):
        if kind is not None:
            ask(runtime, kind)
        before = everything()
        report = check(simulated_host)
        assert (report.problem, report.of_host) == ("", [])
        assert report.of_runtimes == {runtime.pk: []}, kind
        assert everything() == before


@pytest.mark.parametrize(
    ("added", "code"),
    [
        (DISK, "disk"),
        (SHARE, "shared_files"),
        ("<channel type='unix'><target type='virtio' name='org.x'/></channel>", "device"),
        ("<graphics type='vnc' port='5999' listen='0.0.0.0'/>", "device"),
        ("<interface type='network'><source network='default'/><mac address='52:54:00:00:00:99'/></interface>", "interface"),
        ("<shmem name='s'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>", "device"),
        ("<vsock model='virtio'><cid auto='no' address='3'/></vsock>", "device"),
    ],
)  # fmt: skip
def test_an_added_device_sets_the_runtime_aside(
    runtime: Runtime, simulated_host: Host, redefine: Redefine, added: str, code: str
) -> None:
    """Quarantined in the same transaction as the finding and its entries; then paused, and never deleted."""
    redefine("<controller type='usb'", f"{added}<controller type='usb'")
    report = check(simulated_host)
    assert code in {each.code for each in report.of_runtimes[runtime.pk]}
    runtime.refresh_from_db()
    assert runtime.phase == Phase.QUARANTINED, "before anybody has touched the host"
    (asked,) = report.operations
    assert machine.run(asked)
    operation = Operation.objects.get(pk=asked)
    assert (operation.kind, operation.state) == (Kind.QUARANTINE, State.SUCCEEDED)
    assert operation.reason.startswith("Drift: ")
    assert power(simulated_host, runtime) == "paused"
    runtime.refresh_from_db()
    assert (runtime.power, runtime.reserved) == ("paused", True)
    assert runtime.volume_key is not None
    actions = list(Entry.objects.order_by("-pk").values_list("action", flat=True))
    assert {"drift.found", "operation.requested", "operation.succeeded"} <= set(actions)


def test_a_quarantine_is_made_once(runtime: Runtime, simulated_host: Host, redefine: Redefine) -> None:
    """The check finds the same again and asks for nothing more; the rows stay, and say when it was last seen."""
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    drift_check()
    before, seen = everything(), DriftFinding.objects.get().seen_at
    drift_check()
    assert everything() == before
    assert DriftFinding.objects.get().seen_at > seen


def test_a_machine_in_quarantine_that_somebody_resumes_is_paused_again(
    runtime: Runtime, simulated_host: Host, redefine: Redefine, raw: libvirt.virConnect
) -> None:
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    drift_check()
    raw.lookupByName(naming.domain_name(runtime.pk)).resume()
    assert power(simulated_host, runtime) == "running"
    drift_check()
    assert power(simulated_host, runtime) == "paused"
    assert DriftFinding.objects.filter(code="not_set_aside").exists()
    drift_check()
    assert DriftFinding.objects.get(code="not_set_aside").cleared_at is not None
    assert Operation.objects.filter(kind=Kind.QUARANTINE).count() == 2


def test_a_stopped_runtime_is_set_aside_too(
    runtime: Runtime, simulated_host: Host, redefine: Redefine
) -> None:
    """Nobody can start it with what was added."""
    ask(runtime, Kind.STOP)
    redefine("<controller type='usb'", f"{SHARE}<controller type='usb'")
    drift_check()
    runtime.refresh_from_db()
    assert (runtime.phase, runtime.power) == (Phase.QUARANTINED, "off")
    with pytest.raises(OperationRefused, match="quarantined cannot start"):
        operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.START)


def test_release_makes_all_anew(runtime: Runtime, simulated_host: Host, redefine: Redefine) -> None:
    """With a typed reason, by staff: powered off, redefined, booted; the volume and its keys are as they were."""
    key, sealing = runtime.volume_key, runtime.sealing_public_key
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    drift_check()
    with pytest.raises(OperationRefused, match="Give a reason"):
        operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RELEASE)
    ask(runtime, Kind.RELEASE)
    assert (runtime.phase, runtime.power) == (Phase.READY, "running")
    assert (runtime.volume_key, runtime.sealing_public_key) == (key, sealing)
    assert codes(simulated_host) == set()
    assert DriftFinding.objects.filter(cleared_at=None).count() == 0
    assert audit_fleet() == []


def test_a_release_that_fails_leaves_the_quarantine(
    runtime: Runtime, simulated_host: Host, redefine: Redefine, settings: Any
) -> None:
    """A guest that does not come up is powered off, and set aside as before."""
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    drift_check()
    settings.BOOT_TIMEOUT_SECONDS = 0.0
    done = drain(operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RELEASE, reason=REASON))
    runtime.refresh_from_db()
    assert (done.state, runtime.phase, runtime.power) == (State.FAILED, Phase.QUARANTINED, "off")


def test_owners_can_neither_quarantine_nor_release(runtime: Runtime, owner: Any) -> None:
    for kind in (Kind.QUARANTINE, Kind.RELEASE, Kind.MEND):
        with pytest.raises(PermissionRefused):
            operation_request(actor=Actor.of(owner), runtime_id=runtime.pk, kind=kind, reason=REASON)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace("direction='out' priority='1000'", "direction='out' priority='999'"), "filter_changed"),
        (lambda text: text.replace('action="drop"', 'action="accept"', 1), "filter_changed"),
        (lambda text: text.replace('<filterref filter="no-ip-spoofing" />', "", 1), "filter_changed"),
        (None, "filter_missing"),
    ],
)  # fmt: skip
def test_a_filter_that_is_not_ours_sets_a_running_machine_aside(
    runtime: Runtime, simulated_host: Host, rules: Path, change: Callable[[str], str] | None, code: str
) -> None:
    before = rules.read_text()
    if change is None:
        rules.unlink()
    elif (changed := change(before)) == before:
        rules.write_text(before.replace("</filter>", "<rule action='accept' direction='out'/></filter>"))
    else:
        rules.write_text(changed)
    assert codes(simulated_host) == {code}
    runtime.refresh_from_db()
    assert runtime.phase == Phase.QUARANTINED


def test_a_filter_that_is_missing_while_the_machine_is_off_comes_with_its_next_start(
    runtime: Runtime, simulated_host: Host, rules: Path
) -> None:
    ask(runtime, Kind.STOP)
    rules.unlink()
    assert codes(simulated_host) == {"filter_missing"}
    runtime.refresh_from_db()
    assert runtime.phase == Phase.STOPPED
    ask(runtime, Kind.START)
    assert codes(simulated_host) == set()


def test_an_older_portals_filter_is_not_taken_for_a_changed_one(
    runtime: Runtime, simulated_host: Host, rules: Path
) -> None:
    """It was noted when it was set; `--fix` brings it up to date while the machine runs."""
    older = rules.read_text().replace('priority="900"', 'priority="800"')
    rules.write_text(older)
    Told.objects.update(filter=older)
    assert codes(simulated_host) == {"filter_outdated"}
    runtime.refresh_from_db()
    assert runtime.phase == Phase.READY
    with pytest.raises(CommandError):
        call_command("drift")
    call_command("drift", "--fix")
    assert codes(simulated_host) == set()
    assert Operation.objects.get(kind=Kind.MEND).state == State.SUCCEEDED


def test_an_older_portals_machine_runs_on_until_its_next_start(
    runtime: Runtime, simulated_host: Host
) -> None:
    """What was told and what would be told differ: a note, not an alarm."""
    Runtime.objects.filter(pk=runtime.pk).update(memory_mib=runtime.memory_mib + 64)
    assert codes(simulated_host) == {"machine_outdated"}
    ask(runtime, Kind.RESTART)
    assert codes(simulated_host) == set()


def test_an_upgrade_from_before_notes_were_taken_alarms_nobody(
    runtime: Runtime, simulated_host: Host, redefine: Redefine, raw: libvirt.virConnect, rules: Path
) -> None:
    """The machine runs as an older portal defined it; `--fix` defines it anew and takes the first notes."""
    tap = naming.tap_name(host_spec(simulated_host).fleet, runtime.network_index)
    redefine(f"<target dev='{tap}'/>", "<target dev='vnet1'/>")
    domain = raw.lookupByName(naming.domain_name(runtime.pk))
    domain.destroy()
    domain.create()
    rules.write_text(rules.read_text().replace('priority="900"', 'priority="800"'))
    Told.objects.all().delete()
    assert codes(simulated_host) == {"machine_outdated", "filter_outdated"}
    with pytest.raises(CommandError, match="1 findings"):
        call_command("drift", "--fix")
    assert Operation.objects.get(kind=Kind.MEND).state == State.SUCCEEDED
    assert codes(simulated_host) == {"machine_outdated"}
    runtime.refresh_from_db()
    assert runtime.phase == Phase.READY
    ask(runtime, Kind.RESTART)
    assert codes(simulated_host) == set()


@pytest.mark.parametrize("told", ["network", "filter", "machine"])
def test_what_a_host_refuses_to_be_told_is_no_drift(
    runtime: Runtime,
    simulated_host: Host,
    redefine: Redefine,
    raw: libvirt.virConnect,
    rules: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: str,
) -> None:
    """The note says what the host was told by an older portal, not what a step was about to tell it."""
    host, spec = host_spec(simulated_host), runtime_spec(runtime)
    older = {
        "network": xml.network(host, spec).replace('stp="off"', 'stp="on"'),
        "filter": rules.read_text().replace('priority="900"', 'priority="800"'),
        "machine": xml.domain(host, spec).replace('offset="utc"', 'offset="localtime"'),
    }[told]
    if told == "network":
        raw.networkLookupByName(naming.network_name(host.fleet, runtime.pk)).destroy()
        raw.networkDefineXML(older).create()
    elif told == "filter":
        rules.write_text(older)
    else:
        redefine("offset='utc'", "offset='localtime'")
    Told.objects.update(**{told: older})
    before = codes(simulated_host)

    def refused(driver: LibvirtDriver, spec: object) -> bool:
        raise Conflict("refused")

    call = {"network": "ensure_network", "filter": "ensure_filter", "machine": "ensure_domain"}[told]
    monkeypatch.setattr(SimulatedDriver, call, refused)
    asked = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.MEND)
    assert drain(asked).state == State.FAILED
    assert codes(simulated_host) == before
    assert before <= {f"{told}_outdated"}
    runtime.refresh_from_db()
    assert runtime.phase == Phase.READY


def test_an_older_portals_network_lasts_until_its_machine_is_off(
    runtime: Runtime, simulated_host: Host, raw: libvirt.virConnect
) -> None:
    """libvirt would change it in its definition only: half old, half new would look like a change by others."""
    older = xml.network(host_spec(simulated_host), runtime_spec(runtime)).replace('stp="off"', 'stp="on"')
    raw.networkLookupByName(naming.network_name(host_spec(simulated_host).fleet, runtime.pk)).destroy()
    raw.networkDefineXML(older).create()
    Told.objects.update(network=older)
    ask(runtime, Kind.MEND)
    assert codes(simulated_host) == set()
    assert Told.objects.get().network == older
    ask(runtime, Kind.RESTART)
    assert codes(simulated_host) == set()
    assert 'stp="off"' in Told.objects.get().network


def test_changed_limits_are_mended(runtime: Runtime, simulated_host: Host, redefine: Redefine) -> None:
    """Nothing is open meanwhile, so it is shown, and put right when somebody asks for it."""
    redefine("<quota>100000</quota>", "<quota>-1</quota>")
    assert codes(simulated_host) == {"limits"}
    runtime.refresh_from_db()
    assert runtime.phase == Phase.READY
    call_command("drift", "--fix")
    assert codes(simulated_host) == set()


def test_a_network_that_is_down_is_mended(
    runtime: Runtime, simulated_host: Host, raw: libvirt.virConnect
) -> None:
    network = next(each for each in raw.listAllNetworks() if str(runtime.pk) in each.name())
    network.setAutostart(0)
    assert codes(simulated_host) == {"network_down"}
    call_command("drift", "--fix")
    assert codes(simulated_host) == set()


def test_a_network_that_leads_elsewhere_is_grave(
    runtime: Runtime, simulated_host: Host, raw: libvirt.virConnect
) -> None:
    network = next(each for each in raw.listAllNetworks() if str(runtime.pk) in each.name())
    network.destroy()
    raw.networkDefineXML(network.XMLDesc(0).replace("<dns", "<forward mode='nat'/><dns")).create()
    assert "network_changed" in codes(simulated_host)
    runtime.refresh_from_db()
    assert runtime.phase == Phase.QUARANTINED


def test_a_machine_without_its_mark_is_set_aside_all_the_same(
    runtime: Runtime, simulated_host: Host, raw: libvirt.virConnect
) -> None:
    """Whoever takes the mark off does not get out of sight; a release puts it on again."""
    ask(runtime, Kind.STOP)
    domain = raw.lookupByName(naming.domain_name(runtime.pk))
    text = domain.XMLDesc(0)
    begin, end = text.index("<metadata"), text.index("</metadata>") + len("</metadata>")
    raw.defineXML(text[:begin] + text[end:])
    drift_check()
    assert DriftFinding.objects.filter(code="mark", cleared_at=None).exists()
    assert Operation.objects.get(kind=Kind.QUARANTINE).state == State.SUCCEEDED
    ask(runtime, Kind.RELEASE)
    assert codes(simulated_host) == set()


@pytest.mark.parametrize("altered", [{"fleet": "another"}, {"runtime": str(uuid.UUID(int=7))}, {"fleet": ""}])
def test_a_machine_with_an_altered_mark_is_set_aside_all_the_same(
    runtime: Runtime, simulated_host: Host, raw: libvirt.virConnect, altered: dict[str, str]
) -> None:
    """What it stands on tells that it is ours; so it is paused, and not only talked about."""
    domain = raw.lookupByName(naming.domain_name(runtime.pk))
    mark = {
        "fleet": host_spec(simulated_host).fleet,
        "runtime": str(runtime.pk),
        "digest": "0" * 64,
        **altered,
    }
    element = ET.tostring(ET.Element("runtime", mark), encoding="unicode")
    kind, where = libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt.VIR_DOMAIN_AFFECT_LIVE
    domain.setMetadata(kind, element, "portal", xml.METADATA_URI, where)
    drift_check()
    assert DriftFinding.objects.get(cleared_at=None).code == "mark"
    assert Operation.objects.get(kind=Kind.QUARANTINE).state == State.SUCCEEDED
    assert power(simulated_host, runtime) == "paused"
    ask(runtime, Kind.RELEASE)
    assert codes(simulated_host) == set()


def test_another_machine_on_the_runtimes_network_sets_it_aside(
    runtime: Runtime, simulated_host: Host, raw: libvirt.virConnect
) -> None:
    """Whoever it belongs to; it is named, and left alone."""
    network = next(each for each in raw.listAllNetworks() if str(runtime.pk) in each.name()).name()
    guest = raw.defineXML(
        "<domain type='test'><name>guest-of-nobody</name><memory>65536</memory><os><type>hvm</type></os>"
        f"<devices><interface type='network'><source network='{network}'/></interface></devices></domain>"
    )
    try:
        report = check(simulated_host)
        found = [each for each in report.of_runtimes[runtime.pk] if each.code == "used_by_others"]
        assert found[0].detail == f"guest-of-nobody: {network}"
    finally:
        guest.undefine()
    runtime.refresh_from_db()
    assert runtime.phase == Phase.QUARANTINED


def test_a_runtime_with_an_operation_is_left_out(
    runtime: Runtime, simulated_host: Host, redefine: Redefine
) -> None:
    """Its objects are just being made; the next check looks at it."""
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    asked = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RESTART)
    assert check(simulated_host).of_runtimes == {}
    assert DriftFinding.objects.count() == 0
    drain(asked)
    assert codes(simulated_host) == set(), "the restart has defined it anew"


def test_an_operation_that_came_between_look_and_deed_wins(
    runtime: Runtime, simulated_host: Host, redefine: Redefine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen may be its work, half done: nothing is written."""
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    real = checking.look

    def slow(*given: Any) -> Any:
        report = real(*given)
        ask(runtime, Kind.STOP)
        return report

    monkeypatch.setattr(checking, "look", slow)
    report = check(simulated_host)
    assert report.operations == []
    assert DriftFinding.objects.count() == 0
    assert runtime.phase == Phase.STOPPED


def test_delivery_of_secrets_gives_way(runtime: Runtime, simulated_host: Host, redefine: Redefine) -> None:
    """It is left out while one is under way, and set aside as soon as there is none."""
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    asked = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.DELIVER)
    assert check(simulated_host).of_runtimes == {}
    drain(asked)
    drift_check()
    runtime.refresh_from_db()
    assert runtime.phase == Phase.QUARANTINED


def test_a_host_that_does_not_answer_clears_nothing(
    runtime: Runtime, simulated_host: Host, redefine: Redefine
) -> None:
    redefine("<quota>100000</quota>", "<quota>-1</quota>")
    check(simulated_host)
    move(simulated_host, "test+unix:///nowhere?socket=/nonexistent")
    report = check(Host.objects.get())
    assert report.problem
    assert DriftFinding.objects.filter(cleared_at=None).count() == 1
    move(simulated_host, simulated_host.uri)


def test_what_cannot_be_read_of_one_hides_no_other(
    runtime: Runtime, simulated_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another fleet's mark on one machine, or a fault of our own, is a finding and no end of the check."""
    for fault, told in (
        (Conflict("not ours"), ["mark", "unreadable"]),
        (ValueError("x"), ["unreadable"]),
    ):

        def broken(driver: LibvirtDriver, *given: object, fault: Exception = fault) -> None:
            raise fault

        monkeypatch.setattr(checking, "of_runtime", broken)
        report = checking.look(simulated_host, [runtime.pk])
        assert (report.problem, [each.code for each in report.of_runtimes[runtime.pk]]) == ("", told)


@pytest.mark.parametrize("fault", [Unsupported, Conflict])
def test_a_runtime_that_cannot_be_looked_at_keeps_its_findings(
    runtime: Runtime,
    simulated_host: Host,
    redefine: Redefine,
    monkeypatch: pytest.MonkeyPatch,
    fault: type[DriverError],
) -> None:
    """Nobody saw them go. What says that it cannot be read is over as soon as it can."""
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    drift_check()
    before = DriftFinding.objects.get()

    said = iter(["no", "no, for another reason"])

    def broken(driver: LibvirtDriver, *given: object) -> None:
        raise fault(next(said))

    with monkeypatch.context() as patch:
        patch.setattr(checking, "of_runtime", broken)
        drift_check()
        assert not Entry.objects.filter(action="drift.cleared").exists()
        drift_check()
        now = DriftFinding.objects.get(code="disk")
        assert (now.cleared_at, now.seen_at) == (None, before.seen_at)
        assert DriftFinding.objects.get(code="unreadable", cleared_at=None).detail == "no, for another reason"
    drift_check()
    assert [each.code for each in DriftFinding.objects.filter(cleared_at=None)] == ["disk"]
    assert DriftFinding.objects.get(code="disk").seen_at > before.seen_at


def test_a_finding_that_gets_graver_is_a_new_one(
    runtime: Runtime, simulated_host: Host, rules: Path, raw: libvirt.virConnect
) -> None:
    """With its entries (rule 1), and told to staff at the level of an error."""
    ask(runtime, Kind.STOP)
    rules.unlink()
    check(simulated_host)
    raw.lookupByName(naming.domain_name(runtime.pk)).create()
    check(simulated_host)
    rows = DriftFinding.objects.filter(code="filter_missing").order_by("pk")
    assert [(each.severity, each.cleared_at is None) for each in rows] == [
        ("mend", False),
        ("quarantine", True),
    ]
    entries = Entry.objects.filter(action__startswith="drift.").order_by("pk").values_list("event", flat=True)
    said = [(each["action"], each["data"]["severity"]) for each in map(json.loads, entries)]
    assert said == [("drift.found", "mend"), ("drift.cleared", "mend"), ("drift.found", "quarantine")]


def test_without_its_entry_nothing_is_written(
    runtime: Runtime, simulated_host: Host, redefine: Redefine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 1: no finding and no quarantine, if the record cannot be written."""
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    before = everything()

    def broken(**kwargs: object) -> None:
        raise RuntimeError("the record is broken")

    with monkeypatch.context() as patch:
        patch.setattr(Entry.objects, "create", broken)
        with pytest.raises(RuntimeError):
            check(simulated_host)
    assert everything() == before
    runtime.refresh_from_db()
    assert runtime.phase == Phase.READY


def test_staff_are_told_once(
    runtime: Runtime, simulated_host: Host, redefine: Redefine, caplog: pytest.LogCaptureFixture
) -> None:
    """At the level of an error, with what is wrong and where."""
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    with caplog.at_level(logging.WARNING, logger="provisioning.drift.check"):
        drift_check()
        drift_check()
    told = [each for each in caplog.records if each.name == "provisioning.drift.check"]
    assert [each.levelno for each in told] == [logging.ERROR]
    assert "vdz" in told[0].getMessage()
    assert str(runtime.pk) in told[0].getMessage()


def test_the_command_tells_and_ends_with_1(
    runtime: Runtime, simulated_host: Host, redefine: Redefine, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("drift")
    assert "no findings" in capsys.readouterr().out
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    with pytest.raises(CommandError, match="1 findings"):
        call_command("drift", "--fix")
    said = capsys.readouterr().out
    assert f"quarantine  rt-{runtime.pk} (quarantined): A disk is not as it was defined. disk[vdz]" in said
    assert power(simulated_host, runtime) == "paused", (
        "the command sets aside by itself, and mends nothing grave"
    )


def test_a_deleted_runtime_takes_its_findings_out_of_sight(
    runtime: Runtime, simulated_host: Host, redefine: Redefine
) -> None:
    """It is not looked at any more, so what was open is closed."""
    redefine("<controller type='usb'", f"{DISK}<controller type='usb'")
    drift_check()
    ask(runtime, Kind.DELETE)
    drift_check()
    assert DriftFinding.objects.filter(cleared_at=None).count() == 0
    with transaction.atomic():
        assert DriftFinding.objects.count() == 1
