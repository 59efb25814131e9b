"""Requests and workers lock rows in one order. Only PostgreSQL can tell: there another order is a deadlock."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from audit.context import command
from provisioning import machine, services, transitions
from provisioning.leases import Lease, LeaseLost
from provisioning.models import Operation, Runtime
from provisioning.quotas import size_of
from provisioning.services import OperationRefused, operation_request, plan_change
from provisioning.steps import Context
from tenants.models import Plan, Tenant
from tenants.services import plan_save
from tests import races

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
Kind, State = Operation.Kind, Operation.State


@pytest.fixture
def busy(runtime_at_rest: Runtime) -> Operation:
    """A delivery under way, which any other operation ends."""
    return operation_request(actor=TESTER, runtime_id=runtime_at_rest.pk, kind=Kind.DELIVER)


@pytest.fixture
def runtime_at_rest(simulated_host: Any, image: Any, make_tenant: Callable[..., Tenant]) -> Runtime:
    """Ready, as far as the database knows."""
    made = services.runtime_create(actor=TESTER, tenant=make_tenant("acme"))
    Operation.objects.filter(pk=made.pk).update(state=State.SUCCEEDED)
    Runtime.objects.update(phase=Runtime.Phase.READY, first_ready_at=made.created_at)
    return Runtime.objects.get()


@pytest.fixture
def crossing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds one row waits for the other to hold one, too: unless a lock forbids that."""
    both = threading.Barrier(2)
    real, really = Lease.fenced, transitions.refusal

    def meet() -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait(2)

    @contextmanager
    def fenced(lease: Lease) -> Iterator[Operation]:
        with real(lease) as operation:
            meet()
            yield operation

    def refusal(*given: Any) -> str | None:
        meet()
        return really(*given)

    monkeypatch.setattr(Lease, "fenced", fenced)
    monkeypatch.setattr(services, "refusal", refusal)


def work(lease: Lease) -> None:
    """What every step does that notes something of its runtime."""
    with Context.opened(lease) as context, context.changing():
        pass


def force_delete(runtime: Runtime) -> Operation:
    return operation_request(
        actor=TESTER, runtime_id=runtime.pk, kind=Kind.FORCE_DELETE, reason="because of a test"
    )


def apply_plan(runtime: Runtime) -> Operation | None:
    given = {**size_of(runtime.tenant.plan), "cpu_percent": 40}
    plan = plan_save(actor=TESTER, plan=Plan(slug="other", name="Other", cost_floor_cents=1, **given))
    return plan_change(actor=TESTER, tenant=runtime.tenant, plan=plan, price_cents=9000)


@pytest.mark.parametrize("ask", [force_delete, apply_plan])
def test_a_request_that_ends_an_operation_does_not_cross_its_worker(
    busy: Operation, crossing: None, ask: Callable[[Runtime], Operation]
) -> None:
    """Either the worker is through first, or it finds that its lease is lost."""
    lease = machine.claim(busy.pk)
    assert lease is not None
    runtime = Runtime.objects.select_related("tenant__plan").get()
    _, begun = races.at_once([lambda: work(lease), lambda: ask(runtime)], LeaseLost, repr)
    busy.refresh_from_db()
    assert (busy.state, busy.error_code) == (State.FAILED, "superseded")
    assert Operation.objects.get(state__in=Operation.ACTIVE) == begun


def test_what_began_between_the_two_locks_is_left_alone(
    busy: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To end it would be to lock in the other order; whoever asks again gets what they want."""
    monkeypatch.setattr(services, "_lock_active", lambda **chosen: set())
    with pytest.raises(OperationRefused, match="Another operation has just begun"):
        force_delete(busy.runtime)
    busy.refresh_from_db()
    assert busy.state == State.QUEUED
