"""What a request for an operation does to a runtime's size and room, inside the request's own transaction."""

from typing import Any

from provisioning.models import Host, Operation, Runtime
from provisioning.placement import reserve, reserve_size
from provisioning.quotas import changes, impossible, needs_restart, set_size, size_of
from provisioning.refusals import OperationRefused
from provisioning.selectors import lacking

Kind = Operation.Kind
RESIZES = frozenset({Kind.RESIZE, Kind.RESIZE_RESTART})


def prepare(runtime: Runtime, kind: str) -> dict[str, Any] | None:
    """Reserve what ``kind`` needs, and answer what a `Resize` row says of it; unsaved.

    Raises:
        OperationRefused: no host can hold it, or the machine cannot be given its plan's size this way.
    """
    if kind == Kind.CREATE:
        # Nothing of it is anywhere yet, so it is made as the plan is now.
        set_size(runtime, size_of(runtime.tenant.plan))
        refuse_if_never_fits(runtime)
        reserve(runtime)
    return _resize(runtime, kind) if kind in RESIZES else None


def resize_kind(runtime: Runtime) -> Operation.Kind | None:
    """Which operation would give ``runtime`` its plan's size; None if it has it."""
    differing = changes(size_of(runtime), size_of(runtime.tenant.plan))
    if not differing:
        return None
    running = runtime.phase == Runtime.Phase.READY
    return Kind.RESIZE_RESTART if running and needs_restart(differing) else Kind.RESIZE


def _resize(runtime: Runtime, kind: str) -> dict[str, Any]:
    plan = runtime.tenant.plan
    before, after = size_of(runtime), size_of(plan)
    differing = changes(before, after)
    if not differing:
        raise OperationRefused("The machine has its plan's size already.")
    refuse_impossible(runtime)
    if kind == Kind.RESIZE and resize_kind(runtime) == Kind.RESIZE_RESTART:
        raise OperationRefused(
            f"This needs a restart of the machine ({'; '.join(map(str, differing))}). "
            "Ask for it with one, or stop the machine first."
        )
    if short := reserve_size(runtime, after):
        raise OperationRefused(
            f"No room for the larger size: {'; '.join(short)}. Choose a smaller plan, or free room there."
        )
    return {"plan": plan.slug, "before": before, "after": after}


def refuse_impossible(runtime: Runtime) -> None:
    """See that the machine can be given its plan's size at all.

    Raises:
        OperationRefused: it cannot; the message says what to choose instead.
    """
    if why := impossible(changes(size_of(runtime), size_of(runtime.tenant.plan))):
        raise OperationRefused(why)


def refuse_if_never_fits(runtime: Runtime) -> None:
    """Refuse at once what no enabled host could ever hold.

    Raises:
        OperationRefused: with the host that comes nearest.
    """
    hosts = list(Host.objects.filter(enabled=True))
    if not hosts:
        raise OperationRefused("No host is enabled. Register or enable one first.")
    empty = {"vcpus": 0, "memory_mib": 0, "disk_gib": 0}
    reasons = {host.name: lacking(host, runtime, empty) for host in hosts}
    if all(reasons.values()):
        name, why = min(reasons.items(), key=lambda item: len(item[1]))
        raise OperationRefused(
            f"The plan is larger than any host: {name} {'; '.join(why)}. Choose a smaller plan or add a host."
        )
