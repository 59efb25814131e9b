"""No-go probes: each passes on what is well and fails on what is not; none raises, none waits for ever."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import libvirt
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from audit import triggers as audit_triggers
from provisioning.drift.check import check
from provisioning.driver import HostShown, Power, Shown, looks, naming, xml
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.no_go import PROBES, Verdict, examine, fleet, processes
from provisioning.no_go.fleet import Fleet, Seen, SeenHost, see
from provisioning.services import operation_request
from provisioning.specs import host_spec, runtime_spec
from tenants import key_triggers
from tenants.models import Tenant
from tests.provisioning.workers import drain, move

pytestmark = pytest.mark.django_db(transaction=True)
HERE = {"engine", "roles", "bridge_rules"}
"""What a simulated host cannot pass: it isolates nothing, and no web process runs beside a test."""


def verdicts(only: str = "") -> dict[str, Verdict]:
    return {each.name: each for each in examine({only: PROBES[only]} if only else PROBES)}


def test_a_healthy_fleet_passes_all_that_it_can(runtime: Runtime, simulated_host: Host) -> None:
    """With evidence for each; what a simulated host cannot promise fails, honestly."""
    check(simulated_host)
    found = verdicts()
    assert {name for name, each in found.items() if not each.passed} == HERE, [
        each for each in found.values() if not each.passed
    ]
    assert all(each.evidence for each in found.values())
    assert "isolates no hostile guest" in found["engine"].evidence
    assert "not to be seen" in found["bridge_rules"].evidence
    assert "run this as root" in found["roles"].evidence


def test_an_empty_fleet_is_no_go(db: None) -> None:
    """What was never looked at has not passed."""
    found = verdicts()
    for name in ("hosts", "engine", "walls", "bridge_rules", "machines", "volumes", "apart"):
        assert not found[name].passed, name


@pytest.mark.parametrize(
    ("added", "probe"),
    [
        ("<filesystem type='mount'><source dir='/srv'/><target dir='x'/></filesystem>", "machines"),
        ("<interface type='network'><source network='default'/></interface>", "machines"),
    ],
)
def test_drift_is_no_go(
    runtime: Runtime, simulated_host: Host, redefine: Callable[[str, str], None], added: str, probe: str
) -> None:
    redefine("<controller type='usb'", f"{added}<controller type='usb'")
    assert not verdicts(probe)[probe].passed
    assert str(runtime.pk) in verdicts(probe)[probe].evidence


def test_warnings_that_cannot_be_read_are_no_go(
    runtime: Runtime, simulated_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be judged has not passed."""
    assert verdicts("machines")["machines"].passed
    monkeypatch.setattr(looks, "_taints", lambda domain: ("汚染: ホストの CPU",))
    assert "another language" in verdicts("machines")["machines"].evidence
    assert not verdicts("machines")["machines"].passed


def test_a_runtime_that_operations_keep_from_the_check_is_no_go(
    runtime: Runtime, simulated_host: Host, settings: Any
) -> None:
    """Its owner may ask for one after another; the host counts as checked meanwhile."""
    check(simulated_host)
    assert verdicts("watch")["watch"].passed
    late = timezone.now() - timedelta(seconds=6 * settings.DRIFT_SECONDS)
    Runtime.objects.update(drift_looked_at=late)
    asked = operation_request(actor=command_actor(), runtime_id=runtime.pk, kind=Operation.Kind.RESEAL)
    check(simulated_host)
    assert f"rt-{runtime.pk}: last checked" in verdicts("watch")["watch"].evidence
    drain(asked)
    check(simulated_host)
    assert verdicts("watch")["watch"].passed


def test_a_missing_wall_is_no_go(runtime: Runtime, simulated_host: Host, rules: Path) -> None:
    rules.write_text(rules.read_text().replace('"no-ip-spoofing"', '"allow-ipv4"'))
    assert not verdicts("walls")["walls"].passed
    rules.unlink()
    assert not verdicts("walls")["walls"].passed


def test_a_host_that_does_not_answer_passes_nothing(runtime: Runtime, simulated_host: Host) -> None:
    move(simulated_host, "test+unix:///nowhere?socket=/nonexistent")
    found = verdicts()
    for name in ("hosts", "walls", "machines", "volumes", "apart"):
        assert not found[name].passed, name
        assert "Cannot reach libvirt" in found[name].evidence
    move(simulated_host, simulated_host.uri)


def test_a_host_that_is_silent_is_not_waited_for(
    runtime: Runtime, simulated_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "HOST_SECONDS", 0.2)
    monkeypatch.setattr(fleet, "connect", lambda spec: time.sleep(3))
    began = time.monotonic()
    assert "no answer within" in verdicts("hosts")["hosts"].evidence
    assert time.monotonic() - began < 2


def test_no_probe_raises(simulated_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own is a failed probe that tells its type and nothing else."""

    def broken(seen: Fleet) -> Any:
        raise ValueError("the passphrase is x")

    (one, two) = examine({"broken": broken, "tenants": PROBES["tenants"]})
    assert (one.passed, one.evidence) == (False, "the probe broke (ValueError)")
    assert two.passed

    def blind() -> Fleet:
        raise RuntimeError("secret")

    assert {each.passed for each in examine(look=blind)} == {False}
    assert all("secret" not in each.evidence for each in examine(look=blind))


def test_a_query_that_fails_takes_no_other_with_it(simulated_host: Host) -> None:
    def wrong(seen: Fleet) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")

    (one, two) = examine({"wrong": wrong, "tenants": PROBES["tenants"]})
    assert (one.passed, two.passed) == (False, True)


def test_without_its_triggers_the_record_is_no_go(simulated_host: Host, tenant: Tenant) -> None:
    """Each room's; and an entry that can be changed is found by trying."""
    assert verdicts("record")["record"].passed
    for room in (audit_triggers, key_triggers):
        room.remove(connection)
        found = verdicts("record")["record"]
        assert not found.passed
        assert "is missing" in found.evidence
        room.install(connection)
    audit_triggers.remove(connection)
    assert "could be changed" in verdicts("record")["record"].evidence
    audit_triggers.install(connection)
    assert verdicts("record")["record"].passed


def test_a_changed_image_is_no_go(runtime: Runtime, simulated_host: Host, image_files: Path) -> None:
    assert verdicts("image")["image"].passed
    (image_files / "root.img").write_bytes(b"another system")
    assert "not what was registered" in verdicts("image")["image"].evidence


def test_a_changed_row_is_no_go(runtime: Runtime, simulated_host: Host) -> None:
    GuestImage.objects.update(cmdline="init=/bin/sh")
    assert "the seal is broken" in verdicts("seals")["seals"].evidence
    assert not verdicts("image")["image"].passed


def test_tenants_beyond_the_cap_or_below_their_floor_are_no_go(
    simulated_host: Host, tenant: Tenant, settings: Any
) -> None:
    assert verdicts("tenants")["tenants"].passed
    settings.PILOT_TENANT_CAP = 0
    assert verdicts("tenants")["tenants"].evidence == "1 tenants, cap 0"
    assert not verdicts("tenants")["tenants"].passed
    assert verdicts("floors")["floors"].passed
    tenant.plan.cost_floor_cents = tenant.price_cents + 1
    tenant.plan.save()
    assert "acme: below its floor" in verdicts("floors")["floors"].evidence


@pytest.mark.parametrize("name", ["agents", "always_on"])
def test_a_guest_that_states_more_than_was_signed_is_no_go(
    runtime: Runtime, simulated_host: Host, name: str
) -> None:
    assert verdicts("consents")["consents"].passed
    stated = {"consents": {"version": 1, "agents": False, "always_on": False, name: True}}
    Runtime.objects.update(stated=stated)
    assert f"{name} without a signed consent" in verdicts("consents")["consents"].evidence


def test_a_check_that_has_stopped_is_no_go(runtime: Runtime, simulated_host: Host, settings: Any) -> None:
    """Green pages mean nothing while nobody looks."""
    assert "never" in verdicts("watch")["watch"].evidence
    check(simulated_host)
    assert verdicts("watch")["watch"].passed
    Host.objects.update(drift_checked_at=timezone.now() - timedelta(seconds=6 * settings.DRIFT_SECONDS))
    assert not verdicts("watch")["watch"].passed


def test_a_quarantine_is_no_go(runtime: Runtime, simulated_host: Host) -> None:
    assert verdicts("quarantine")["quarantine"].passed
    drain(
        operation_request(
            actor=command_actor(),
            runtime_id=runtime.pk,
            kind=Operation.Kind.QUARANTINE,
            reason="a test of it",
        )
    )
    assert "acme is in quarantine" in verdicts("quarantine")["quarantine"].evidence


def command_actor() -> Any:
    from audit.context import command

    return command("test")


def seen_on_kvm(runtime: Runtime, host: Host, count: int = 2) -> Fleet:
    """``count`` running guests as a real host would show them, each with its own."""
    spec = replace(host_spec(host), uri="qemu:///system")
    seen = SeenHost(Host.objects.get(pk=host.pk), spec, HostShown(spec.pool_path, True, True, True))
    for index in range(count):
        wish = replace(
            runtime_spec(runtime),
            network_index=index,
            runtime_id=naming.filter_uuid(runtime.pk) if index else runtime.pk,
            mac=f"52:54:00:00:00:{index:02x}",
            guest_address=f"10.9.0.{4 * index + 2}",
        )
        live = xml.domain(spec, wish).replace('type="test"', 'type="kvm"', 1)
        seen.runtimes.append(Seen(runtime, wish, None, Shown(Power.RUNNING, live=live, defined=live)))
    return Fleet([seen])


def asked(name: str, seen: Fleet) -> Verdict:
    (verdict,) = examine({name: PROBES[name]}, lambda: seen)
    return verdict


def test_only_kvm_passes(runtime: Runtime, simulated_host: Host) -> None:
    """By the host's row and by what each machine really runs under."""
    seen = seen_on_kvm(runtime, simulated_host)
    assert not asked("engine", seen).passed
    seen.hosts[0].host.engine = "kvm"
    assert asked("engine", seen).passed
    shown = seen.runtimes[1].shown
    assert shown is not None
    seen.runtimes[1].shown = replace(shown, live=(shown.live or "").replace('type="kvm"', 'type="qemu"', 1))
    assert "runs under qemu" in asked("engine", seen).evidence


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("52:54:00:00:00:01", "52:54:00:00:00:00"),
        ("10.9.0.6", "10.9.0.2"),
        ("{second}.qcow2", "{first}.qcow2"),
        ('network="rtn-{fleet}-{second}"', 'network="rtn-{fleet}-{first}"'),
        ("{second_key}", "{first_key}"),
    ],
)
def test_two_guests_that_share_anything_are_no_go(
    runtime: Runtime, simulated_host: Host, old: str, new: str, settings: Any
) -> None:
    seen = seen_on_kvm(runtime, simulated_host)
    assert asked("apart", seen).passed
    first, second = (each.spec.runtime_id for each in seen.runtimes)
    words = {
        "first": first,
        "second": second,
        "fleet": settings.FLEET_ID,
        "first_key": naming.secret_uuid(first),
        "second_key": naming.secret_uuid(second),
    }
    shown = seen.runtimes[1].shown
    assert shown is not None
    assert shown.live is not None
    changed = shown.live.replace(old.format(**words), new.format(**words))
    assert changed != shown.live
    seen.runtimes[1].shown = replace(shown, live=changed)
    assert "belongs to 2 guests" in asked("apart", seen).evidence


def test_br_netfilter_off_is_no_go(runtime: Runtime, simulated_host: Host) -> None:
    seen = seen_on_kvm(runtime, simulated_host)
    assert asked("bridge_rules", seen).passed
    seen.hosts[0].shown = HostShown("/pool", True, True, False)
    assert "br_netfilter is off" in asked("bridge_rules", seen).evidence


def process(folder: Path, pid: int, **environment: str) -> None:
    (folder / str(pid)).mkdir()
    text = b"\0".join(f"{name}={value}".encode() for name, value in environment.items())
    (folder / str(pid) / "environ").write_bytes(text)


def test_roles_are_looked_at_by_their_environment(tmp_path: Path) -> None:
    """Names only: a value never stands in the evidence."""
    process(tmp_path, 1, PORTAL_ROLE="worker", PORTAL_WRAPPING_KEY="secret")
    assert not processes.split(tmp_path)[0], "no web process seen"
    process(tmp_path, 2, PORTAL_ROLE="web", PORTAL_WRAPPING_KEY="secret", LIBVIRT_URI="")
    passed, evidence = processes.split(tmp_path)
    assert not passed
    assert "web 2 holds PORTAL_WRAPPING_KEY" in evidence
    assert "LIBVIRT_URI" not in evidence
    assert "secret" not in evidence


def test_a_web_process_of_its_own_user_without_keys_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(tmp_path, 1, PORTAL_ROLE="worker", PORTAL_WRAPPING_KEY="secret")
    process(tmp_path, 2, PORTAL_ROLE="web")
    assert "runs as the worker's user" in processes.split(tmp_path)[1]
    real = processes._process

    def owned(folder: Path) -> Any:
        found = real(folder)
        return replace(found, uid=int(folder.name)) if found else None

    monkeypatch.setattr(processes, "_process", owned)
    assert processes.split(tmp_path)[0]


def test_what_the_probes_see_is_what_libvirt_shows(
    runtime: Runtime, simulated_host: Host, raw: libvirt.virConnect
) -> None:
    (seen,) = see().runtimes
    assert seen.running
    assert seen.findings == []
    raw.lookupByName(naming.domain_name(runtime.pk)).destroy()
    (seen,) = see().runtimes
    assert not seen.running


def test_the_command_prints_all_and_ends_with_1(
    runtime: Runtime, simulated_host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match=r"No go: .*engine"):
        call_command("no_go")
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in said] == list(PROBES)
    assert {line.split()[0] for line in said} == {"pass", "FAIL"}
