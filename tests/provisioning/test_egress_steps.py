"""The way out in a runtime's life: set before its machine can exist, closed after it is gone, and audited."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from audit.context import command
from provisioning import machine
from provisioning.driver import Capacity, Engine, SimulatedDriver
from provisioning.driver.local_keeper import LocalKeeper
from provisioning.driver.probe import ProbeResult
from provisioning.egress import delivery
from provisioning.fleet import audit_fleet
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.seals import seal
from provisioning.services import host_register, operation_cancel, operation_request, runtime_create
from provisioning.specs import host_spec
from provisioning.steps import Context
from tenants.models import Tenant
from tests.provisioning.test_egress_delivery import change_state, newest, state
from tests.provisioning.workers import drain

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
Kind, State = Operation.Kind, Operation.State


@pytest.fixture
def folder(simulated_host: Host) -> Path:
    return Path(simulated_host.egress_path)


def serving(folder: Path) -> list[str]:
    return list(state(folder)["serving"])


def ask(runtime: Runtime, kind: str) -> Operation:
    return operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind, reason="because of a test")


def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalKeeper, "follow", lambda self, generation, body: None)


def test_the_way_out_is_set_before_the_machine_exists(
    simulated_host: Host, folder: Path, tenant: Tenant, image: GuestImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the machine is defined, the proxy already serves it."""
    seen: list[list[str]] = []
    define = SimulatedDriver.ensure_domain

    def look(self: SimulatedDriver, spec: Any) -> bool:
        seen.append(serving(folder))
        return define(self, spec)

    monkeypatch.setattr(SimulatedDriver, "ensure_domain", look)
    operation = drain(runtime_create(actor=TESTER, tenant=tenant))
    assert operation.state == State.SUCCEEDED, operation.error_message
    assert seen == [[str(operation.runtime_id)]]
    assert Runtime.objects.get().egress_at is not None
    names = list(operation.steps.order_by("index").values_list("name", flat=True))
    assert names[names.index("filter") :][:3] == ["filter", "egress", "define"]


def test_a_stopped_machine_keeps_its_way_out(runtime: Runtime, folder: Path) -> None:
    """Its next start needs no new rules."""
    drain(ask(runtime, Kind.STOP))
    assert serving(folder) == [str(runtime.pk)]
    drain(ask(runtime, Kind.START))
    assert state(folder)["generation"] == 1
    assert audit_fleet() == []


def test_a_deletion_closes_it_before_the_filter_goes(
    runtime: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after the machine is gone: nobody uses the address without its rules."""
    seen: list[tuple[list[str], bool]] = []
    remove = SimulatedDriver.remove_filter

    def look(self: SimulatedDriver, runtime_id: uuid.UUID) -> bool:
        seen.append((serving(folder), runtime_id in self.inventory().domains))
        return remove(self, runtime_id)

    monkeypatch.setattr(SimulatedDriver, "remove_filter", look)
    assert drain(ask(runtime, Kind.DELETE)).state == State.SUCCEEDED
    assert seen == [([], False)]
    runtime.refresh_from_db()
    assert (runtime.egress, runtime.egress_hosts, runtime.egress_at) == (False, [], None)
    assert audit_fleet() == []


def test_a_cancelled_creation_closes_it_again(
    simulated_host: Host, folder: Path, tenant: Tenant, image: GuestImage
) -> None:
    operation = runtime_create(actor=TESTER, tenant=tenant)
    context = run_until(operation, "define")
    assert serving(folder) == [str(operation.runtime_id)]
    operation_cancel(actor=TESTER, operation_id=operation.pk)
    assert drain(context).state == State.CANCELLED
    assert serving(folder) == []
    assert not Runtime.objects.get().egress


def run_until(operation: Operation, step: str) -> Operation:
    """Advance until ``step`` is next."""
    lease = machine.claim(operation.pk)
    assert lease is not None
    with Context.opened(lease) as context:
        while operation.steps.exclude(state="done").order_by("index")[0].name != step:
            assert machine.advance(lease, context)
    Operation.objects.filter(pk=operation.pk).update(lease_owner=None, lease_until=None)
    return operation


def test_without_its_keeper_nothing_is_started(
    simulated_host: Host,
    folder: Path,
    tenant: Tenant,
    image: GuestImage,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    """A machine whose rules are not in force might meet another's: tried again, then undone, and said why."""
    settings.EGRESS_TIMEOUT_SECONDS = 0.1
    monkeypatch.setattr(machine, "MAX_ATTEMPTS", 2)
    operation = runtime_create(actor=TESTER, tenant=tenant)
    with monkeypatch.context() as patched:
        mute(patched)
        for _ in range(2):
            machine.run(operation.pk)
            Operation.objects.filter(pk=operation.pk).update(not_before=None)
        operation.refresh_from_db()
        assert (operation.state, operation.error_code) == (State.UNDOING, "egress_not_in_force")
        assert "See that it runs" in operation.error_message
        assert operation.steps.get(name="define").state == "pending"
    assert drain(operation).state == State.FAILED
    assert serving(folder) == []


def test_a_deletion_waits_for_the_keeper_and_a_forced_one_does_not(
    runtime: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """The rules without it lie there, and the keeper follows them once it runs."""
    settings.EGRESS_TIMEOUT_SECONDS = 0.1
    with monkeypatch.context() as patched:
        mute(patched)
        waiting = ask(runtime, Kind.DELETE)
        machine.run(waiting.pk)
        waiting.refresh_from_db()
        assert waiting.active
        assert "See that it runs" in waiting.wait_reason
        assert waiting.steps.get(name="unfilter").state == "pending"
        forced = drain(ask(runtime, Kind.FORCE_DELETE))
        assert forced.state == State.SUCCEEDED
        assert "once it runs" in forced.steps.get(name="unegress").detail
    assert newest(folder).tenants == ()


def test_a_host_without_a_proxy_says_so_and_goes_on(
    simulated_host: Host, tenant: Tenant, image: GuestImage
) -> None:
    """The guest starts, and reaches nothing outside."""
    simulated_host.egress_path = ""
    simulated_host.seal = seal(simulated_host)
    simulated_host.save()
    operation = drain(runtime_create(actor=TESTER, tenant=tenant))
    assert operation.state == State.SUCCEEDED
    assert "will reach nothing outside" in operation.steps.get(name="egress").detail
    assert not Runtime.objects.get().egress
    assert audit_fleet() == []
    assert drain(ask(Runtime.objects.get(), Kind.DELETE)).state == State.SUCCEEDED


def test_a_host_gets_its_folder_by_registration(simulated_host: Host) -> None:
    """Sealed, and seen by the driver; registering without one takes it away."""
    told = {name: getattr(simulated_host, name) for name in ("engine", "vcpus", "memory_mib", "disk_gib")}
    given: Any = {"actor": TESTER, "name": "simulated", "uri": simulated_host.uri, "probe": told}
    path = simulated_host.pool_path
    host = host_register(**given, pool_path=path, egress_path="/srv/egress")
    assert host_spec_path(host) == "/srv/egress"
    assert host_spec_path(host_register(**given, pool_path=path)) == ""
    host_register(**given, pool_path=path, egress_path=simulated_host.egress_path)


def host_spec_path(host: Host) -> str:
    return host_spec(Host.objects.get(pk=host.pk)).egress_path


def test_the_audit_finds_what_is_served_and_should_not_be(runtime: Runtime, folder: Path) -> None:
    """And what should be and is not, and what the keeper complains of."""
    assert audit_fleet() == []
    stranger = str(uuid.uuid4())
    change_state(folder, serving=[stranger], problem="no space left")
    found = {(finding.subject, finding.problem) for finding in audit_fleet()}
    assert found == {
        (stranger, "served by the proxy, but should not be"),
        (str(runtime.pk), "should be served by the proxy, but is not"),
        (str(folder), "no space left"),
    }


def test_the_audit_says_when_the_state_cannot_be_read(runtime: Runtime, folder: Path) -> None:
    good = json.dumps(state(folder))
    (folder / "state.json").write_text("{")
    (finding,) = audit_fleet()
    assert "cannot be read" in finding.problem
    (folder / "state.json").write_text(good)


def test_a_start_with_rules_in_force_needs_no_keeper(
    runtime: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in force stays so while the keeper is away for a moment."""
    drain(ask(runtime, Kind.STOP))
    mute(monkeypatch)
    assert drain(ask(runtime, Kind.START)).state == State.SUCCEEDED


def test_the_steps_confirm_even_what_a_change_made_meanwhile(runtime: Runtime, folder: Path) -> None:
    """Deliveries between two operations do not disturb either."""
    drain(ask(runtime, Kind.STOP))
    Runtime.objects.filter(pk=runtime.pk).update(egress=False)
    delivery.apply(Host.objects.get().pk)
    assert serving(folder) == []
    drain(ask(runtime, Kind.START))
    assert serving(folder) == [str(runtime.pk)]


def test_the_folder_of_a_proxy_that_serves_guests_does_not_change(
    runtime: Runtime, simulated_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could close what the keeper of the former one lets through. Probing again keeps what is registered."""
    told = {name: getattr(simulated_host, name) for name in ("engine", "vcpus", "memory_mib", "disk_gib")}
    given: Any = {"uri": simulated_host.uri, "pool_path": simulated_host.pool_path, "probe": told}
    for path in ("", "/srv/another"):
        with pytest.raises(ValidationError, match="serves guests"):
            host_register(actor=TESTER, name=simulated_host.name, egress_path=path, **given)
    simulated_host.refresh_from_db()
    assert runtime.egress
    assert host_spec_path(simulated_host) == simulated_host.egress_path

    found = ProbeResult(Engine.TEST, ["none"], frozenset(), Capacity(4, 8192, 50))
    monkeypatch.setattr("provisioning.management.commands.host_register.probe_host", lambda *_: found)
    again = ("host_register", "--again", "--name", simulated_host.name, "--uri", simulated_host.uri)
    call_command(*again, "--pool", simulated_host.pool_path)
    simulated_host.refresh_from_db()
    assert host_spec_path(simulated_host) == simulated_host.egress_path != ""
    with pytest.raises(CommandError, match="serves guests"):
        call_command(*again, "--pool", simulated_host.pool_path, "--egress", "")
