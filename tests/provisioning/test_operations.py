"""Asking for operations: what is written, what is refused and why. Nothing here touches a host."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from audit.context import Actor
from audit.models import Entry
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.sequences import SEQUENCES
from provisioning.services import (
    OperationRefused,
    PermissionRefused,
    operation_cancel,
    operation_request,
    runtime_create,
)
from provisioning.transitions import TRANSITIONS
from tenants.models import Membership, Plan, Tenant
from tenants.services import membership_add

pytestmark = pytest.mark.django_db
Kind, Phase, State = Operation.Kind, Runtime.Phase, Operation.State


@pytest.fixture
def created(
    as_operator: Actor, tenant: Tenant, image: GuestImage, make_host: Callable[..., Host]
) -> Operation:
    make_host()
    return runtime_create(actor=as_operator, tenant=tenant)


def finish(operation: Operation, phase: str = Phase.READY, *, ready: bool = True) -> Runtime:
    """Pretend that a worker has carried it out."""
    Operation.objects.filter(pk=operation.pk).update(state=State.SUCCEEDED)
    runtime = operation.runtime
    runtime.refresh_from_db()
    runtime.phase = phase
    runtime.first_ready_at = operation.created_at if ready else None
    runtime.save()
    return runtime


def test_creation_writes_everything_at_once(created: Operation) -> None:
    """Runtime with names and addresses, operation, steps, reservation and entries; no host is touched."""
    runtime = created.runtime
    assert [s.name for s in created.steps.all()] == [p.name for p in SEQUENCES[Kind.CREATE]]
    assert (runtime.phase, runtime.reserved, runtime.network_index) == (Phase.PROVISIONING, True, 0)
    assert runtime.mac.startswith("52:54:00:")
    assert set(Entry.objects.values_list("action", flat=True)) >= {
        "runtime.registered",
        "operation.requested",
    }


def test_without_an_entry_nothing_is_requested(created: Operation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1."""
    runtime = finish(created)

    def broken(**given: Any) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr("provisioning.services.record", broken)
    with pytest.raises(RuntimeError):
        operation_request(actor=Actor("command", "x"), runtime_id=runtime.pk, kind=Kind.STOP)
    runtime.refresh_from_db()
    assert runtime.phase == Phase.READY
    assert runtime.operations.count() == 1


def test_one_operation_at_a_time(created: Operation, as_operator: Actor) -> None:
    """The second is refused in words, and by the database itself."""
    runtime = created.runtime
    with pytest.raises(OperationRefused, match="cannot stop"):
        operation_request(actor=as_operator, runtime_id=runtime.pk, kind=Kind.STOP)
    Runtime.objects.update(phase=Phase.READY, first_ready_at=created.created_at)
    with pytest.raises(OperationRefused, match="still going on"):
        operation_request(actor=as_operator, runtime_id=runtime.pk, kind=Kind.STOP)
    with pytest.raises(IntegrityError), transaction.atomic():
        Operation.objects.create(runtime=runtime, kind=Kind.STOP)


def test_a_second_runtime_is_refused(created: Operation, as_operator: Actor, tenant: Tenant) -> None:
    """One tenant, one machine."""
    with pytest.raises(OperationRefused, match="has a runtime already"):
        runtime_create(actor=as_operator, tenant=tenant)


def test_a_plan_larger_than_any_host_is_refused_at_once(
    as_operator: Actor, tenant: Tenant, plan: Plan, image: GuestImage, make_host: Callable[..., Host]
) -> None:
    """With the numbers that do not fit; nothing is left behind."""
    make_host(memory_mib=400)
    with pytest.raises(OperationRefused, match=r"larger than any host.*needs 512 MiB of memory, 400 free"):
        runtime_create(actor=as_operator, tenant=tenant)
    assert not Runtime.objects.exists()
    assert not Operation.objects.exists()


def test_without_host_or_image_it_is_refused(
    as_operator: Actor, tenant: Tenant, make_host: Callable[..., Host], image_files: Any
) -> None:
    """Each says what to do first."""
    make_host()
    with pytest.raises(OperationRefused, match="make image"):
        runtime_create(actor=as_operator, tenant=tenant)
    GuestImage.objects.create(version="g", directory="/nowhere", sha256={}, size_bytes=1)
    Host.objects.update(enabled=False)
    with pytest.raises(OperationRefused, match="No host is enabled"):
        runtime_create(actor=as_operator, tenant=tenant)


@pytest.mark.parametrize("kind", [k for k, t in TRANSITIONS.items() if t.destructive])
@pytest.mark.parametrize("reason", ["", "   ", "too short", "x" * 501])
def test_destruction_needs_a_typed_reason(
    created: Operation, as_operator: Actor, kind: str, reason: str
) -> None:
    """Ten characters at least, five hundred at most."""
    runtime = finish(created)
    if Phase.READY not in TRANSITIONS[kind].allowed:
        Runtime.objects.filter(pk=runtime.pk).update(phase=Phase.QUARANTINED)
    with pytest.raises(OperationRefused, match="Give a reason"):
        operation_request(actor=as_operator, runtime_id=runtime.pk, kind=kind, reason=reason)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("phase", list(Phase))
def test_phases_allow_what_the_table_says(
    created: Operation, as_operator: Actor, kind: str, phase: str
) -> None:
    """Every pair of phase and kind is either accepted or refused with nothing changed."""
    transition = TRANSITIONS[kind]
    Operation.objects.update(state=State.SUCCEEDED)
    ready = None if transition.needs_data is False else created.created_at
    kept = {} if phase != Phase.DELETED else {"reserved": False, "host": None}
    Runtime.objects.update(phase=phase, first_ready_at=ready, **kept)
    wanted = {Kind.RESIZE: {"cpu_percent": 50}, Kind.RESIZE_RESTART: {"memory_mib": 1024}}.get(Kind(kind))
    if wanted:
        Plan.objects.update(**wanted)
    given: dict[str, Any] = {
        "actor": as_operator,
        "runtime_id": created.runtime_id,
        "kind": kind,
        "reason": "because it must be",
    }
    if phase in transition.allowed:
        operation_request(**given)
        assert Runtime.objects.get().phase == (transition.during or phase)
    else:
        with pytest.raises(OperationRefused, match="cannot"):
            operation_request(**given)
        assert Runtime.objects.get().phase == phase


def test_a_created_runtime_is_never_created_again(created: Operation, as_operator: Actor) -> None:
    """Undoing a second creation would delete the tenant's data."""
    runtime = finish(created, Phase.FAILED)
    with pytest.raises(OperationRefused, match="holds data"):
        operation_request(actor=as_operator, runtime_id=runtime.pk, kind=Kind.CREATE)


def test_who_may_ask_for_what(created: Operation, owner: User, make_user: Callable[..., User]) -> None:
    """Owners start, stop and restart; only operators do more; members and strangers nothing."""
    runtime = finish(created)
    member, stranger = make_user("member"), make_user("stranger")
    membership_add(
        actor=Actor("command", "x"), tenant=runtime.tenant, user=member, role=Membership.Role.MEMBER
    )
    for user in (member, stranger):
        with pytest.raises(PermissionRefused):
            operation_request(actor=Actor.of(user), runtime_id=runtime.pk, kind=Kind.STOP)
    for kind in (Kind.REBUILD, Kind.DELETE, Kind.FORCE_DELETE):
        with pytest.raises(PermissionRefused):
            operation_request(
                actor=Actor.of(owner), runtime_id=runtime.pk, kind=kind, reason="I would like to"
            )
    assert operation_request(actor=Actor.of(owner), runtime_id=runtime.pk, kind=Kind.STOP).kind == Kind.STOP


def test_cancel_is_recorded_and_only_where_it_can_be(created: Operation, as_operator: Actor) -> None:
    """A creation can be cancelled; a deletion or a finished operation cannot."""
    operation_cancel(actor=as_operator, operation_id=created.pk)
    assert Entry.objects.filter(action="operation.cancel_requested").exists()
    runtime = finish(created)
    with pytest.raises(OperationRefused, match="is over"):
        operation_cancel(actor=as_operator, operation_id=created.pk)
    deletion = operation_request(
        actor=as_operator, runtime_id=runtime.pk, kind=Kind.DELETE, reason="contract ended"
    )
    with pytest.raises(OperationRefused, match="cannot be cancelled"):
        operation_cancel(actor=as_operator, operation_id=deletion.pk)


def test_a_forced_deletion_ends_what_is_going_on(created: Operation, as_operator: Actor) -> None:
    """And takes the fence with it, so that the old worker can write nothing more."""
    forced = operation_request(
        actor=as_operator, runtime_id=created.runtime_id, kind=Kind.FORCE_DELETE, reason="host has burnt down"
    )
    before, created.fence = created.fence, 0
    created.refresh_from_db()
    assert (created.state, created.error_code, created.fence) == (State.FAILED, "superseded", before + 1)
    assert forced.active


def test_a_lost_broker_does_not_lose_the_request(
    created: Operation,
    as_operator: Actor,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    """The row stands; the sweeper sends it when the broker is back."""
    runtime = finish(created)

    def down(*args: Any, **given: Any) -> None:
        raise ConnectionError("redis is down")

    monkeypatch.setattr("celery.current_app.send_task", down)
    with django_capture_on_commit_callbacks(execute=True):
        operation_request(actor=as_operator, runtime_id=runtime.pk, kind=Kind.STOP)
    assert Operation.objects.filter(kind=Kind.STOP, state=State.QUEUED).exists()
