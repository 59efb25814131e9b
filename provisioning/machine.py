"""The step machine: claims an operation and carries it to its end, whatever dies on the way (DESIGN §5).

A claim is a compare-and-swap that sets a lease and raises the fencing number. Everything a worker writes
about the operation is conditional on that number, so a worker that slept through its lease writes nothing.
Steps are "look, then do what is missing", so whoever claims next simply runs the current step again.
"""

import logging
import uuid
from datetime import timedelta

from django.conf import settings
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils.timezone import now as _now

from audit.context import SYSTEM
from audit.services import record
from provisioning.driver import DriverError
from provisioning.driver.faults import fault_point
from provisioning.heartbeat import Heartbeat
from provisioning.leases import Lease, LeaseLost
from provisioning.models import Operation, Runtime, Step
from provisioning.quotas import ROOM, set_spare
from provisioning.sequences import SEQUENCES
from provisioning.steps import ACTIONS, Context, StepFailed, Wait
from provisioning.transitions import TRANSITIONS

log = logging.getLogger(__name__)
State = Operation.State

MAX_ATTEMPTS = 6
BACKOFF_SECONDS = (1, 2, 4, 8, 15, 30)
PERSISTENT = frozenset({Operation.Kind.DELETE, Operation.Kind.FORCE_DELETE, Operation.Kind.QUARANTINE})
"""Kinds that only go forward: they try for as long as it takes."""


def claim(operation_id: uuid.UUID) -> Lease | None:
    """Take the operation if it is due and nobody holds it. Expiry is checked in the same statement."""
    owner = uuid.uuid4()
    taken = (
        Operation.objects.filter(pk=operation_id, state__in=Operation.ACTIVE)
        .filter(Q(lease_until=None) | Q(lease_until__lt=Now()))
        .filter(Q(not_before=None) | Q(not_before__lte=Now()))
        .update(
            lease_owner=owner,
            lease_until=Now() + timedelta(seconds=settings.LEASE_SECONDS),
            fence=F("fence") + 1,
            started_at=Coalesce(F("started_at"), Now()),
        )
    )
    if not taken:
        return None
    fence = (
        Operation.objects.values_list("fence", flat=True).filter(pk=operation_id, lease_owner=owner).first()
    )
    return Lease(operation_id, owner, fence) if fence is not None else None


def run(operation_id: uuid.UUID) -> bool:
    """Claim the operation and advance it until it ends, waits or is lost. True if it was claimed."""
    lease = claim(operation_id)
    if lease is None:
        return False
    try:
        with Heartbeat(lease), Context.opened(lease) as context:
            while advance(lease, context):
                pass
    except LeaseLost:
        log.warning("operation %s: the lease was lost; another worker goes on", operation_id)
    return True


def advance(lease: Lease, context: Context) -> bool:
    """Do or undo one step, or end the operation. False when there is nothing more to do now."""
    with lease.fenced() as operation:
        _settle_direction(operation)
        undoing = operation.state == State.UNDOING
        step = _next_step(operation, undoing)
        if step is None:
            _finish(operation)
            return False
        step.state = Step.State.RUNNING
        step.started_at = step.started_at or _now()
        step.attempts += 1
        step.save()
    prefix = "undo." if undoing else "step."
    try:
        fault_point(f"{prefix}{step.name}:before")
        action = ACTIONS[step.name]
        context.begin(step)
        (action.undo if undoing else action.do)(context)
        fault_point(f"{prefix}{step.name}:after")
    except Wait as wait:
        return _wait(lease, step, wait.reason, wait.seconds)
    except DriverError as error:
        return _stumble(lease, step, error.code, error.message, error.retryable)
    except StepFailed as error:
        return _stumble(lease, step, error.code, error.message, error.retryable)
    except LeaseLost:
        raise
    except Exception as error:
        # A fault of our own: the text may hold anything, so only its type is shown.
        log.exception("operation %s: step %s failed", lease.operation_id, step.name)
        return _stumble(
            lease, step, "internal", f"Internal fault ({type(error).__name__}) in step {step.name}.", True
        )
    _complete(lease, step, undoing)
    return True


def _settle_direction(operation: Operation) -> None:
    if operation.state == State.QUEUED:
        operation.state = State.RUNNING
    if operation.cancel_requested and operation.state == State.RUNNING and _next_step(operation, False):
        _turn_back(operation, "cancelled", "Cancelled on request.")
    operation.save(update_fields=["state", "error_code", "error_message"])


def _next_step(operation: Operation, undoing: bool) -> Step | None:
    steps = list(operation.steps.order_by("index"))
    if not undoing:
        return next((s for s in steps if s.state != Step.State.DONE), None)
    planned = SEQUENCES[operation.kind]
    touched = {Step.State.RUNNING, Step.State.DONE, Step.State.FAILED}
    return next((s for s in reversed(steps) if s.state in touched and planned[s.index].undone), None)


def _complete(lease: Lease, step: Step, undoing: bool) -> None:
    with lease.fenced() as operation:
        step.state = Step.State.UNDONE if undoing else Step.State.DONE
        step.finished_at = _now()
        step.save(update_fields=["state", "finished_at"])
        operation.wait_reason, operation.waiting_since = "", None
        operation.save(update_fields=["wait_reason", "waiting_since"])
        _record(operation, "operation.step_undone" if undoing else "operation.step_done", step=step.name)


def _wait(lease: Lease, step: Step, reason: str, seconds: float) -> bool:
    """Give the operation back to the queue, with the reason that people see."""
    with lease.fenced() as operation:
        if operation.wait_reason != reason[:300]:
            operation.wait_reason = reason[:300]
            operation.waiting_since = operation.waiting_since or _now()
        Operation.objects.filter(pk=operation.pk).update(
            wait_reason=operation.wait_reason,
            waiting_since=operation.waiting_since,
            not_before=Now() + timedelta(seconds=seconds),
            lease_owner=None,
            lease_until=None,
        )
        Step.objects.filter(pk=step.pk).update(attempts=F("attempts") - 1)
    return False


def _stumble(lease: Lease, step: Step, code: str, message: str, retryable: bool) -> bool:
    """A step failed: try again later, turn back, or give up."""
    with lease.fenced() as operation:
        undoing = operation.state == State.UNDOING
        keep_trying = undoing or operation.kind in PERSISTENT or (retryable and step.attempts < MAX_ATTEMPTS)
        step.detail = message[:300]
        if keep_trying:
            step.save(update_fields=["detail"])
            delay = BACKOFF_SECONDS[min(step.attempts, len(BACKOFF_SECONDS)) - 1]
            Operation.objects.filter(pk=operation.pk).update(
                wait_reason=f"Trying again: {message}"[:300],
                waiting_since=Coalesce(F("waiting_since"), Now()),
                not_before=Now() + timedelta(seconds=delay),
                lease_owner=None,
                lease_until=None,
            )
            return False
        step.state = Step.State.FAILED
        step.finished_at = _now()
        step.save(update_fields=["state", "detail", "finished_at"])
        _turn_back(operation, code, message)
        operation.save(update_fields=["state", "error_code", "error_message"])
        _record(operation, "operation.step_failed", step=step.name, code=code)
    return True


def _turn_back(operation: Operation, code: str, message: str) -> None:
    operation.state = State.UNDOING
    # Undoing has tries of its own, however many the deed has had.
    undone = [index for index, step in enumerate(SEQUENCES[operation.kind]) if step.undone]
    operation.steps.filter(index__in=undone).update(attempts=0)
    operation.error_code, operation.error_message = code, message[:500]


def _finish(operation: Operation) -> None:
    """Write the end: the operation's state, the runtime's phase and what is given back."""
    transition = TRANSITIONS[operation.kind]
    phase: str
    if operation.state == State.RUNNING:
        operation.state, phase = State.SUCCEEDED, transition.success or operation.phase_before
    elif transition.restores:
        operation.state = State.CANCELLED if operation.cancel_requested else State.FAILED
        phase = operation.phase_before if _revived(operation) else transition.failure
    elif operation.cancel_requested and transition.cancelled is not None:
        operation.state, phase = State.CANCELLED, _phase_after_cancel(operation, transition.cancelled)
    else:
        operation.state, phase = State.FAILED, transition.failure
    operation.finished_at = _now()
    operation.lease_owner = operation.lease_until = operation.not_before = None
    operation.holds_slot = False
    operation.wait_reason, operation.waiting_since = "", None
    operation.save()
    runtime = operation.runtime
    runtime.phase = phase
    if operation.kind == Operation.Kind.CREATE and operation.state != State.SUCCEEDED:
        runtime.reserved, runtime.host = False, None
    set_spare(runtime)
    runtime.save(update_fields=["phase", "reserved", "host", *(f"spare_{name}" for name in ROOM)])
    _record(operation, f"operation.{operation.state}", phase=str(phase), code=operation.error_code)


def _revived(operation: Operation) -> bool:
    """Whether the machine's power is as it was when the operation was asked for, for all that is known."""
    up = {Runtime.Power.RUNNING, Runtime.Power.UNKNOWN}
    return operation.phase_before != Runtime.Phase.READY or operation.runtime.power in up


def _phase_after_cancel(operation: Operation, cancelled: Runtime.Phase) -> Runtime.Phase:
    """As before, if only a place was looked for: a restart cancelled by then leaves its guest running."""
    begun = operation.steps.exclude(name="place").exclude(state=Step.State.PENDING)
    return cancelled if begun.exists() else Runtime.Phase(operation.phase_before or cancelled)


def _record(operation: Operation, action: str, **data: str) -> None:
    record(
        action=action,
        actor=SYSTEM,
        tenant_id=operation.runtime.tenant_id,
        target=("operation", operation.pk),
        data={"kind": operation.kind, **data},
    )


def due() -> list[uuid.UUID]:
    """Operations that nobody holds and that may go on now, oldest first."""
    return list(
        Operation.objects.filter(state__in=Operation.ACTIVE)
        .filter(Q(lease_until=None) | Q(lease_until__lt=Now()))
        .filter(Q(not_before=None) | Q(not_before__lte=Now()))
        .order_by("created_at")
        .values_list("pk", flat=True)
    )
