"""A runtime's whole life on libvirt's simulated driver, with the real agent as a local process."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings

from audit.context import command
from audit.models import Entry
from provisioning import machine
from provisioning.driver import connect
from provisioning.fleet import audit_fleet
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.sequences import SEQUENCES
from provisioning.services import operation_cancel, operation_request, runtime_create
from provisioning.specs import host_spec
from tenants.models import Tenant
from tests.provisioning.workers import drain, move

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
Kind, State, Phase = Operation.Kind, Operation.State, Runtime.Phase


def ask(runtime: Runtime, kind: str) -> Operation:
    return drain(
        operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind, reason="because of a test")
    )


def test_create_ends_with_a_guest_that_answers(runtime: Runtime, simulated_host: Host) -> None:
    """Ready, running, certified, its spent secret gone, and both sides agree."""
    assert (runtime.phase, runtime.power) == (Phase.READY, "running")
    assert runtime.enrolment_secret is None
    assert runtime.certificate_serial
    assert len(runtime.sealing_public_key) == 64
    assert audit_fleet() == []
    actions = list(Entry.objects.values_list("action", flat=True))
    assert "runtime.enrolled" in actions
    assert actions.count("operation.step_done") == len(SEQUENCES[Kind.CREATE])


def test_stop_start_restart_rebuild_keep_the_volume(runtime: Runtime) -> None:
    """Each ends in the phase of the table, with the same keys in the guest."""
    sealing = runtime.sealing_public_key
    for kind, phase in [
        (Kind.STOP, Phase.STOPPED),
        (Kind.START, Phase.READY),
        (Kind.RESTART, Phase.READY),
        (Kind.REBUILD, Phase.READY),
    ]:
        operation = ask(runtime, kind)
        runtime.refresh_from_db()
        assert (operation.state, runtime.phase) == (State.SUCCEEDED, phase), operation.error_message
        assert audit_fleet() == []
    assert runtime.sealing_public_key == sealing


def test_delete_leaves_nothing(runtime: Runtime, simulated_host: Host) -> None:
    """The key goes first; then everything on the host; the row stays as a tombstone that holds nothing."""
    assert ask(runtime, Kind.DELETE).state == State.SUCCEEDED
    runtime.refresh_from_db()
    assert (runtime.phase, runtime.volume_key, runtime.host, runtime.reserved) == (
        Phase.DELETED,
        None,
        None,
        False,
    )
    with connect(host_spec(simulated_host)) as driver:
        inventory = driver.inventory()
    assert not (
        inventory.domains | inventory.networks | inventory.volumes | inventory.secrets | inventory.filters
    )
    order = list(
        Entry.objects.filter(action__in=["runtime.key_destroyed", "operation.step_done"])
        .order_by("pk")
        .values_list("action", flat=True)
    )
    assert order.index("runtime.key_destroyed") == len(SEQUENCES[Kind.CREATE]), (
        "the key goes before any other step"
    )


def test_cancel_undoes_everything(simulated_host: Host, tenant: Tenant, image: GuestImage) -> None:
    """A cancelled creation leaves no object and no reservation, and can be asked for again."""
    operation = runtime_create(actor=TESTER, tenant=tenant)
    operation_cancel(actor=TESTER, operation_id=operation.pk)
    assert drain(operation).state == State.CANCELLED
    runtime = Runtime.objects.get()
    assert (runtime.phase, runtime.reserved, runtime.host, runtime.volume_key) == (
        Phase.PENDING,
        False,
        None,
        None,
    )
    assert audit_fleet() == []
    assert ask(runtime, Kind.CREATE).state == State.SUCCEEDED


def test_a_restart_cancelled_before_it_began_leaves_the_guest_running(runtime: Runtime) -> None:
    """Nothing was done to the machine, so the runtime is as ready as it was."""
    operation = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RESTART)
    operation_cancel(actor=TESTER, operation_id=operation.pk)
    assert drain(operation).state == State.CANCELLED
    runtime.refresh_from_db()
    assert (runtime.phase, runtime.power) == (Phase.READY, "running")


def test_forced_deletion_passes_an_unreachable_host(runtime: Runtime, simulated_host: Host) -> None:
    """The key is destroyed and the row closed; what stays on the host is listed once it is back."""
    move(simulated_host, "test+unix:///default?socket=/nonexistent/libvirt-sock")
    assert ask(runtime, Kind.FORCE_DELETE).state == State.SUCCEEDED
    move(simulated_host, "test+unix:///default")
    findings = {f.kind for f in audit_fleet()}
    assert {"domains", "networks", "volumes"} <= findings


def test_the_web_may_not_open_wrapped_keys(runtime: Runtime, settings: Any) -> None:
    """Without the wrapping key the row is noise."""
    from provisioning.wrapping import WrappingError, unwrap

    assert runtime.volume_key is not None
    settings.WRAPPING_KEY = b""
    with pytest.raises(WrappingError):
        unwrap(runtime.volume_key, identity=f"runtime/{runtime.pk}/volume_key")


def test_a_key_moved_to_another_row_does_not_open(runtime: Runtime) -> None:
    """The row's identity is part of what is authenticated."""
    from provisioning.wrapping import WrappingError, unwrap

    assert runtime.volume_key is not None
    assert settings.WRAPPING_KEY
    assert unwrap(runtime.volume_key, identity=f"runtime/{runtime.pk}/volume_key")
    with pytest.raises(WrappingError):
        unwrap(runtime.volume_key, identity="runtime/00000000-0000-0000-0000-000000000000/volume_key")


def test_no_room_now_is_a_wait_with_numbers(runtime: Runtime, make_tenant: Callable[..., Tenant]) -> None:
    """The second runtime waits, says why, and goes on when there is room."""
    Host.objects.update(memory_mib=600)
    second = runtime_create(actor=TESTER, tenant=make_tenant("other"))
    machine.run(second.pk)
    second.refresh_from_db()
    assert second.wait_reason == "No capacity: simulated needs 512 MiB of memory, 88 free."
    assert second.active
    Host.objects.update(memory_mib=8192)
    assert drain(second).state == State.SUCCEEDED


def test_start_slots_are_waited_for_in_turn(
    runtime: Runtime, simulated_host: Host, make_tenant: Callable[..., Tenant]
) -> None:
    """With every slot taken the next waits with its place in the queue."""
    Host.objects.update(build_slots=1)
    first = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RESTART)
    Operation.objects.filter(pk=first.pk).update(holds_slot=True)
    second = runtime_create(actor=TESTER, tenant=make_tenant("other"))
    machine.run(second.pk)
    second.refresh_from_db()
    assert second.wait_reason == "Waiting for a start slot on simulated: place 1 in the queue."
    assert drain(first).state == State.SUCCEEDED
    assert drain(second).state == State.SUCCEEDED


def test_a_lost_volume_is_never_replaced(runtime: Runtime, simulated_host: Host) -> None:
    """An empty volume in its place would look to the tenant as if its files had been deleted."""
    assert ask(runtime, Kind.STOP).state == State.SUCCEEDED
    with connect(host_spec(simulated_host)) as driver:
        driver.remove_volume(runtime.pk)
    for _ in range(2):
        failed = ask(runtime, Kind.START)
        assert (failed.state, failed.error_code) == (State.FAILED, "volume_lost")
        with connect(host_spec(simulated_host)) as driver:
            assert runtime.pk not in driver.inventory().volumes
