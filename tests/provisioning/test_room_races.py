"""Room is never promised twice, however many ask at once. `make test` runs this on both databases."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from audit.context import command
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.placement import reserve, roomiest
from provisioning.quotas import size_of
from provisioning.selectors import reserved_on
from provisioning.services import OperationRefused, operation_request, plan_change, runtime_create
from tenants.models import Plan, Tenant
from tenants.services import plan_save
from tests import races

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
Kind, Phase = Operation.Kind, Runtime.Phase


def at_once(*deeds: Callable[[], Any]) -> list[Any]:
    """What each came to: its answer, or the words of its refusal."""
    return races.at_once(deeds, OperationRefused, lambda refusal: " ".join(refusal.messages))


@pytest.fixture
def four(make_tenant: Callable[..., Tenant], image: GuestImage) -> list[Tenant]:
    return [make_tenant(slug) for slug in ("ash", "birch", "cedar", "daisy")]


@pytest.fixture
def larger(plan: Plan) -> Plan:
    given = {**size_of(plan), "memory_mib": 1024, "cost_floor_cents": 1}
    return plan_save(actor=TESTER, plan=Plan(slug="large", name="Large", **given))


def made(tenant: Tenant, phase: str = Phase.STOPPED) -> Runtime:
    """A runtime that a worker has made and that nothing changes now."""
    operation = runtime_create(actor=TESTER, tenant=tenant)
    Operation.objects.filter(pk=operation.pk).update(state="succeeded")
    Runtime.objects.filter(pk=operation.runtime_id).update(phase=phase, first_ready_at=operation.created_at)
    return Runtime.objects.get(pk=operation.runtime_id)


@pytest.fixture
def slow_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has counted what is held waits for another to have counted, too: unless a lock forbids that."""
    both = threading.Barrier(2)

    def counted(host: Host) -> dict[str, int]:
        held = reserved_on(host)
        with suppress(threading.BrokenBarrierError):
            both.wait(5)
        return held

    monkeypatch.setattr("provisioning.placement.reserved_on", counted)


def promised() -> dict[str, int]:
    host = Host.objects.get()
    held = reserved_on(host)
    assert held["memory_mib"] <= host.memory_mib
    assert held["disk_gib"] <= host.disk_gib
    assert held["vcpus"] <= 4 * host.vcpus
    return held


def test_creations_at_once_get_the_room_that_there_is(
    make_host: Callable[..., Host], four: list[Tenant]
) -> None:
    """Room for two of four: two have their place from the request on, two wait for one."""
    make_host(memory_mib=1100)
    at_once(*[lambda tenant=tenant: runtime_create(actor=TESTER, tenant=tenant).pk for tenant in four])
    assert Runtime.objects.filter(reserved=True).exclude(host=None).count() == 2
    assert Runtime.objects.filter(host=None).count() == 2
    assert promised()["memory_mib"] == 1024


def test_creations_at_once_spread_over_hosts(make_host: Callable[..., Host], four: list[Tenant]) -> None:
    """Each host gets what it holds and no more."""
    hosts = [make_host(memory_mib=600), make_host(memory_mib=600), make_host(memory_mib=1100)]
    at_once(*[lambda tenant=tenant: runtime_create(actor=TESTER, tenant=tenant).pk for tenant in four])
    assert [Runtime.objects.filter(host=host).count() for host in hosts] == [1, 1, 2]


def test_larger_plans_at_once_get_the_room_that_there_is(
    make_host: Callable[..., Host], four: list[Tenant], larger: Plan
) -> None:
    """Room for one machine to grow: one of four does, the others are told so."""
    make_host(memory_mib=4 * 512 + 600)
    for tenant in four:
        made(tenant)
    ends = at_once(
        *[
            lambda tenant=tenant: plan_change(
                actor=TESTER, tenant=tenant, plan=larger, price_cents=5000, restart=True
            )
            for tenant in four
        ]
    )
    refused = [end for end in ends if isinstance(end, str)]
    assert len(refused) == 3
    assert all("needs 512 MiB of memory, 88 free" in words for words in refused)
    assert promised()["memory_mib"] == 5 * 512
    assert Tenant.objects.filter(plan=larger).count() == 1


def test_a_creation_and_a_larger_plan_at_once(
    make_host: Callable[..., Host], four: list[Tenant], larger: Plan
) -> None:
    """One room, two who want it: whoever is first has it."""
    make_host(memory_mib=1100)
    made(four[0])
    at_once(
        lambda: runtime_create(actor=TESTER, tenant=four[1]).pk,
        lambda: plan_change(actor=TESTER, tenant=four[0], plan=larger, price_cents=5000, restart=True),
    )
    assert promised()["memory_mib"] == 1024


@pytest.mark.usefixtures("slow_look")
def test_the_hosts_lock_alone_keeps_creations_apart(
    make_host: Callable[..., Host], four: list[Tenant]
) -> None:
    """Asked for again after they were undone, they meet nowhere but at the host."""
    host = make_host(memory_mib=1100)
    runtimes = [made(tenant, Phase.FAILED) for tenant in four]
    Runtime.objects.update(first_ready_at=None, host=None, reserved=False)
    at_once(
        *[
            lambda runtime=runtime: operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.CREATE)
            for runtime in runtimes
        ]
    )
    assert Runtime.objects.filter(host=host).count() == 2
    assert promised()["memory_mib"] == 1024


@pytest.mark.usefixtures("slow_look")
def test_the_hosts_lock_alone_keeps_larger_plans_apart(
    make_host: Callable[..., Host], four: list[Tenant], larger: Plan
) -> None:
    """Two machines grow into the room of one: only one of them does."""
    make_host(memory_mib=2 * 512 + 600)
    runtimes = [made(tenant) for tenant in four[:2]]
    Tenant.objects.update(plan=larger)
    ends = at_once(
        *[
            lambda runtime=runtime: operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RESIZE)
            for runtime in runtimes
        ]
    )
    assert sum(isinstance(end, str) for end in ends) == 1
    assert promised()["memory_mib"] == 3 * 512


def test_the_same_plan_asked_for_twice_at_once(
    make_host: Callable[..., Host], four: list[Tenant], larger: Plan
) -> None:
    """One operation, and room held once."""
    make_host()
    runtime = made(four[0], Phase.READY)
    Tenant.objects.update(plan=larger)
    ends = at_once(
        *[lambda: operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RESIZE_RESTART)] * 3
    )
    assert sum(isinstance(end, str) for end in ends) == 2
    assert promised()["memory_mib"] == 1024


def test_stopped_machines_and_silent_hosts_count(make_host: Callable[..., Host], four: list[Tenant]) -> None:
    """What is off, failed or out of reach holds its room all the same."""
    host = make_host(memory_mib=3 * 512 + 100)
    for tenant, phase in zip(four, (Phase.STOPPED, Phase.FAILED, Phase.READY), strict=False):
        made(tenant, phase)
    Runtime.objects.update(power="unknown")
    Host.objects.update(problem="libvirt does not answer")
    late = runtime_create(actor=TESTER, tenant=four[3]).runtime
    assert (late.host, late.reserved) == (None, True)
    host.refresh_from_db()
    assert roomiest(late, [host]) is None
    assert promised()["memory_mib"] == 3 * 512


def test_a_host_that_answers_is_taken_first(make_host: Callable[..., Host], four: list[Tenant]) -> None:
    """A larger one that does not answer is the second choice, and one that is drained is none."""
    make_host(name="silent", memory_mib=9000, problem="libvirt does not answer")
    make_host(name="drained", memory_mib=9000, enabled=False)
    near = make_host(name="near", memory_mib=600)
    first, second = (runtime_create(actor=TESTER, tenant=tenant).runtime.host for tenant in four[:2])
    assert first == near
    assert second is not None
    assert second.name == "silent"


def test_room_is_never_reserved_outside_a_transaction(
    make_host: Callable[..., Host], four: list[Tenant]
) -> None:
    """There no lock holds."""
    from django.db.transaction import TransactionManagementError

    make_host()
    runtime = made(four[0])
    with pytest.raises(TransactionManagementError):
        reserve(runtime)
