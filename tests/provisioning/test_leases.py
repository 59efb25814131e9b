"""Claims: one worker at a time, and a worker that has lost its lease writes nothing."""

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from audit.context import command
from provisioning import machine
from provisioning.leases import LeaseLost
from provisioning.models import GuestImage, Host, Operation, Runtime, Step
from provisioning.services import runtime_create
from provisioning.steps import Context
from tenants.models import Tenant
from tests.provisioning.workers import let_lease_lapse

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operation(tenant: Tenant, image: GuestImage, make_host: Callable[..., Host]) -> Operation:
    make_host()
    return runtime_create(actor=command("test"), tenant=tenant)


def test_only_one_of_many_claims_wins(operation: Operation) -> None:
    """Eight threads at a barrier; exactly one gets the lease."""
    barrier, won = threading.Barrier(8), []

    def contend() -> None:
        barrier.wait()
        lease = machine.claim(operation.pk)
        if lease is not None:
            won.append(lease)
        connection.close()

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_held_lease_is_not_claimed_and_a_lapsed_one_is(operation: Operation) -> None:
    """With a higher fencing number."""
    first = machine.claim(operation.pk)
    assert first is not None
    assert machine.claim(operation.pk) is None
    let_lease_lapse(operation.pk)
    second = machine.claim(operation.pk)
    assert second is not None
    assert second.fence == first.fence + 1


def test_a_worker_that_slept_writes_nothing(operation: Operation) -> None:
    """Neither through a fenced transaction nor by renewing."""
    first = machine.claim(operation.pk)
    assert first is not None
    let_lease_lapse(operation.pk)
    assert machine.claim(operation.pk) is not None
    with pytest.raises(LeaseLost):
        first.renew()
    with pytest.raises(LeaseLost), first.fenced() as row:
        row.error_message = "written by the dead"
        row.save()
    operation.refresh_from_db()
    assert operation.error_message == ""


def test_losing_the_lease_inside_a_step_rolls_the_change_back(operation: Operation) -> None:
    """The row lock is taken with the fence, so a change cannot slip in between."""
    lease = machine.claim(operation.pk)
    assert lease is not None
    Operation.objects.filter(pk=operation.pk).update(fence=99)
    with Context.opened(lease) as context, pytest.raises(LeaseLost), context.changing() as runtime:
        runtime.power = Runtime.Power.RUNNING
    assert Runtime.objects.get().power == Runtime.Power.ABSENT


def test_what_is_not_due_is_not_claimed(operation: Operation) -> None:
    """A wait is respected in the same statement."""
    Operation.objects.update(not_before=timezone.now() + timedelta(minutes=1))
    assert machine.claim(operation.pk) is None
    assert machine.due() == []


def test_an_unknown_or_finished_operation_is_not_claimed(operation: Operation) -> None:
    """A late message does nothing."""
    assert machine.claim(uuid.uuid4()) is None
    Operation.objects.update(state=Operation.State.SUCCEEDED)
    assert machine.run(operation.pk) is False


def test_the_heartbeat_keeps_a_slow_step_alive(operation: Operation, settings: Any) -> None:
    """A step longer than the lease keeps it, because the lease is renewed meanwhile."""
    from provisioning.heartbeat import Heartbeat

    settings.LEASE_SECONDS = 0.6
    lease = machine.claim(operation.pk)
    assert lease is not None
    with Heartbeat(lease):
        threading.Event().wait(1.2)
        assert machine.claim(operation.pk) is None
    lease.renew()


def test_an_internal_fault_is_told_without_its_text(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of an unforeseen exception may hold anything, so only its type is shown."""
    from provisioning.steps import ACTIONS, Action

    def explode(context: Any) -> None:
        raise ValueError("passphrase hunter2")

    monkeypatch.setitem(ACTIONS, "place", Action(explode))
    machine.run(operation.pk)
    operation.refresh_from_db()
    assert "ValueError" in operation.wait_reason
    shown = operation.wait_reason + operation.error_message + Step.objects.get(index=0).detail
    assert "hunter2" not in shown
