"""Every write that a person or command can ask of provisioning. None of these touches libvirt."""

import logging
from functools import partial
from uuid import UUID

from celery import current_app
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from audit.context import Actor
from audit.personal import reason_of
from audit.reasons import REASON_MAXIMUM, reason_problem
from audit.services import record
from provisioning import addresses
from provisioning.models import GuestImage, Host, Operation, Resize, Runtime, Step
from provisioning.policy import may_request
from provisioning.quotas import size_of
from provisioning.refusals import OperationRefused as OperationRefused
from provisioning.refusals import PermissionRefused as PermissionRefused
from provisioning.seals import seal
from provisioning.selectors import current_image
from provisioning.sequences import SEQUENCES
from provisioning.sizing import prepare, refuse_impossible, resize_kind
from provisioning.transitions import TRANSITIONS, refusal
from tenants.models import Plan, Tenant
from tenants.selectors import is_operator
from tenants.services import tenant_plan_set

log = logging.getLogger(__name__)
_JUST_BEGUN = "Another operation has just begun. Wait for it or cancel it."


@transaction.atomic
def runtime_create(*, actor: Actor, tenant: Tenant) -> Operation:
    """Register a runtime for ``tenant`` from its plan and request its creation.

    UUID, MAC and address are chosen here, before the first libvirt call, so that whatever happens later
    can be found by name.

    Raises:
        OperationRefused: no image, no host that is large enough, or the tenant has a runtime already.
    """
    if not may_request(actor, tenant, Operation.Kind.CREATE):
        raise PermissionRefused("Only operators create runtimes.")
    image = current_image()
    if image is None:
        raise OperationRefused("No guest image is registered. Run `make image`, then try again.")
    # Serialises address allocation: every creation passes through the tenant table's first lock.
    list(Tenant.objects.select_for_update().order_by("pk").values_list("pk", flat=True))
    if Tenant.objects.filter(pk=tenant.pk).exclude(offboarded_at=None).exists():
        raise OperationRefused(f"{tenant.name} is offboarded. It gets no runtime any more.")
    if Runtime.objects.filter(tenant=tenant).exclude(phase=Runtime.Phase.DELETED).exists():
        raise OperationRefused(f"{tenant.name} has a runtime already.")
    plan = Plan.objects.get(tenants=tenant)  # not as the caller has read it: the locks came later
    runtime = Runtime(
        tenant=tenant,
        image=image,
        **size_of(plan),
        network_index=addresses.free_index(
            set(Runtime.objects.exclude(phase=Runtime.Phase.DELETED).values_list("network_index", flat=True))
        ),
        mac=addresses.new_mac(),
    )
    runtime.save(force_insert=True)
    record(
        action="runtime.registered",
        actor=actor,
        tenant_id=tenant.pk,
        target=("runtime", runtime.pk),
        data={"plan": plan.slug, "image": image.version},
    )
    return operation_request(actor=actor, runtime_id=runtime.pk, kind=Operation.Kind.CREATE)


@transaction.atomic
def operation_request(*, actor: Actor, runtime_id: UUID, kind: str, reason: str = "") -> Operation:
    """Write the operation, its steps, the reserved quota and the audit entry; then wake a worker.

    Raises:
        Runtime.DoesNotExist: no such runtime.
        OperationRefused: not allowed now; nothing was written.
        PermissionRefused: ``actor`` may not ask for this.
    """
    reachable = _lock_active(runtime=runtime_id)
    # Its own row only: tenants of one plan do not wait for each other.
    locked = Runtime.objects.select_for_update(of=("self",))
    runtime = locked.select_related("tenant__plan").get(pk=runtime_id)
    transition = TRANSITIONS[kind]
    reason = reason.strip()
    if not may_request(actor, runtime.tenant, kind):
        raise PermissionRefused("You may not ask for this operation.")
    if why := refusal(runtime, kind):
        raise OperationRefused(why)
    if (transition.destructive or len(reason) > REASON_MAXIMUM) and (problem := reason_problem(reason)):
        raise OperationRefused(problem)
    active = runtime.operations.filter(state__in=Operation.ACTIVE).first()
    if active is not None:
        yields = TRANSITIONS[active.kind].yields and not transition.yields
        if kind != Operation.Kind.FORCE_DELETE and not yields:
            raise OperationRefused(
                f"{active.get_kind_display()} is still going on. Wait for it or cancel it."
            )
        if active.pk not in reachable:
            raise OperationRefused(_JUST_BEGUN)
        _supersede(active, actor, kind)
    size = prepare(runtime, kind)
    operation = Operation(
        runtime=runtime,
        kind=kind,
        reason=reason,
        phase_before=runtime.phase,
        requested_by_id=int(actor.id) if actor.kind == "user" else None,
    )
    try:
        with transaction.atomic():
            operation.save(force_insert=True)
    except IntegrityError:
        raise OperationRefused(_JUST_BEGUN) from None
    Step.objects.bulk_create(
        Step(operation=operation, index=index, name=planned.name)
        for index, planned in enumerate(SEQUENCES[kind])
    )
    if size is not None:
        Resize.objects.create(operation=operation, **size)
    runtime.phase = transition.during or runtime.phase
    runtime.save()
    record(
        action="operation.requested",
        actor=actor,
        tenant_id=runtime.tenant_id,
        target=("operation", operation.pk),
        data={"kind": kind, "runtime": str(runtime.pk), **({"size": size} if size else {})},
        personal={"reason": reason_of(actor, reason)} if reason else {},
    )
    wake(operation.pk)
    return operation


@transaction.atomic
def plan_change(
    *, actor: Actor, tenant: Tenant, plan: Plan, price_cents: int, restart: bool = False
) -> Operation | None:
    """Give a tenant another plan, and request that its machine follows. All of it or nothing is written.

    Args:
        restart: whether the machine may be restarted for it.

    Returns:
        The operation; None if the machine has that size already, or cannot follow now: it is not settled, and
        takes the size at its creation or when somebody applies the plan.

    Raises:
        PermissionRefused: ``actor`` is no operator of the tenant.
        OperationRefused: the machine cannot be given that size, or needs a restart for it.
        TenantError: the price is below the plan's cost floor.
    """
    if not may_request(actor, tenant, Operation.Kind.RESIZE):
        raise PermissionRefused("Only operators change a tenant's plan.")
    tenant_plan_set(actor=actor, tenant=tenant, plan=plan, price_cents=price_cents)
    _lock_active(runtime__tenant=tenant)
    runtime = (
        Runtime.objects.select_for_update(of=("self",))
        .select_related("tenant__plan")
        .filter(tenant=tenant)
        .exclude(phase=Runtime.Phase.DELETED)
        .first()
    )
    kind = resize_kind(runtime) if runtime is not None else None
    if runtime is None or kind is None or runtime.first_ready_at is None:
        return None
    refuse_impossible(runtime)
    if runtime.phase not in TRANSITIONS[Operation.Kind.RESIZE].allowed:
        return None
    if kind == Operation.Kind.RESIZE_RESTART and not restart:
        kind = Operation.Kind.RESIZE  # which is refused with the words for it
    return operation_request(actor=actor, runtime_id=runtime.pk, kind=kind)


@transaction.atomic
def operation_cancel(*, actor: Actor, operation_id: UUID) -> Operation:
    """Ask for an operation to be undone. What runs now is finished first.

    Raises:
        OperationRefused: it is over, or of a kind that cannot be cancelled.
    """
    operation = (
        Operation.objects.select_for_update(of=("self",))
        .select_related("runtime__tenant")
        .get(pk=operation_id)
    )
    tenant = operation.runtime.tenant
    if not may_request(actor, tenant, operation.kind):
        raise PermissionRefused("You may not cancel this operation.")
    if not operation.active:
        raise OperationRefused("This operation is over.")
    if TRANSITIONS[operation.kind].cancelled is None:
        raise OperationRefused(f"{operation.get_kind_display()} cannot be cancelled.")
    operation.cancel_requested = True
    operation.not_before = None
    operation.save(update_fields=["cancel_requested", "not_before"])
    record(
        action="operation.cancel_requested",
        actor=actor,
        tenant_id=tenant.pk,
        target=("operation", operation.pk),
    )
    wake(operation.pk)
    return operation


@transaction.atomic
def access_close(*, actor: Actor, runtime_id: UUID) -> None:
    """Close every content route of the guest and end its members' sessions, within seconds.

    Raises:
        PermissionRefused: ``actor`` is neither an operator nor an owner of the tenant.
    """
    _set_access(actor, runtime_id, "owner" if _is_only_owner(actor, runtime_id) else "staff")


@transaction.atomic
def access_reopen(*, actor: Actor, runtime_id: UUID) -> None:
    """Let members sign in again. What staff closed, only staff reopen.

    Raises:
        PermissionRefused: the same, or an owner asks and staff had closed it.
    """
    _set_access(actor, runtime_id, "")


def _is_only_owner(actor: Actor, runtime_id: UUID) -> bool:
    tenant = Tenant.objects.get(runtimes=runtime_id)
    return actor.user is not None and not is_operator(actor.user, tenant)


def _set_access(actor: Actor, runtime_id: UUID, closed_by: str) -> None:
    runtime = Runtime.objects.select_for_update().select_related("tenant").get(pk=runtime_id)
    if not may_request(actor, runtime.tenant, Operation.Kind.STOP):
        raise PermissionRefused("Only owners and operators close or reopen access.")
    if runtime.access_closed_by == "staff" and _is_only_owner(actor, runtime_id):
        raise PermissionRefused("Staff have closed access. Ask an operator to reopen it.")
    if runtime.access_closed_by == closed_by:
        return
    runtime.access_closed_by = closed_by
    runtime.save(update_fields=["access_closed_by"])
    record(
        action="access.closed" if closed_by else "access.reopened",
        actor=actor,
        tenant_id=runtime.tenant_id,
        target=("runtime", runtime.pk),
    )
    tell_worker("provisioning.tasks.access_apply", runtime_id)


def wake(operation_id: UUID) -> None:
    """Let a worker go on with an operation."""
    tell_worker("provisioning.tasks.operation_run", operation_id)


def tell_worker(task: str, identifier: UUID) -> None:
    """Send a task once the transaction is committed. A lost message is the sweeper's business."""
    transaction.on_commit(partial(_send, task, identifier))


def _send(task: str, identifier: UUID) -> None:
    try:
        # By name: importing the task would import libvirt, which a web process must not hold.
        current_app.send_task(task, args=[str(identifier)])
    except Exception as error:
        # Any broker fault: the row is committed, and the sweeper sends it again.
        log.warning("no worker could be told of %s: %s", identifier, type(error).__name__)


def _lock_active(**chosen: object) -> set[UUID]:
    """Lock the operation under way, before its runtime's row: workers lock them in this order, too."""
    active = Operation.objects.select_for_update(of=("self",)).filter(state__in=Operation.ACTIVE, **chosen)
    return set(active.values_list("pk", flat=True))


def _supersede(operation: Operation, actor: Actor, kind: str) -> None:
    """End an operation so that one of ``kind`` can begin; its worker loses the lease."""
    operation.state = Operation.State.FAILED
    operation.error_code = "superseded"
    operation.error_message = f"Ended by a request to {Operation.Kind(kind).label}."
    operation.finished_at = timezone.now()
    operation.holds_slot = False
    operation.lease_owner = operation.lease_until = None
    operation.fence += 1
    operation.save()
    record(
        action="operation.superseded",
        actor=actor,
        tenant_id=operation.runtime.tenant_id,
        target=("operation", operation.pk),
    )


@transaction.atomic
def image_register(
    *,
    actor: Actor,
    version: str,
    directory: str,
    sha256: dict[str, str],
    cmdline: str,
    size_bytes: int,
    check: dict[str, object],
) -> GuestImage:
    """Make an image known. New and rebuilt runtimes boot the newest. Idempotent.

    Args:
        check: what the image's check found (``checked.json``); empty if there was none.

    Raises:
        ValidationError: the image did not pass for just these digests, and a host really runs guests.
    """
    checked = check.get("good") is True and check.get("sha256") == sha256
    if not checked and not _all_hosts_are_simulated():
        raise ValidationError(f"Image {version} has not passed its check. Run `make image`, then try again.")
    sealed = {"directory": directory, "sha256": sha256, "cmdline": cmdline, "checked": checked}
    image, created = GuestImage.objects.update_or_create(
        version=version,
        defaults={
            **sealed,
            "size_bytes": size_bytes,
            "check_result": {name: value for name, value in check.items() if name != "sha256"},
            "retired": False,
            "seal": seal(GuestImage(version=version, **sealed)),
        },
    )
    record(
        action="image.registered" if created else "image.updated",
        actor=actor,
        target=("image", image.pk),
        data={"version": version, "sha256": sha256, "checked": checked},
    )
    return image


def _all_hosts_are_simulated() -> bool:
    """Then no guest ever boots from the image."""
    engines = set(Host.objects.values_list("engine", flat=True))
    return engines == {Host.Engine.TEST}


@transaction.atomic
def image_retire(*, actor: Actor, image: GuestImage) -> None:
    """Stop booting new runtimes from an image."""
    image.retired = True
    image.save(update_fields=["retired"])
    record(action="image.retired", actor=actor, target=("image", image.pk), data={"version": image.version})


@transaction.atomic
def host_register(
    *,
    actor: Actor,
    name: str,
    uri: str,
    pool_path: str,
    probe: dict[str, object],
    egress_path: str = "",
) -> Host:
    """Make a host known, or renew what its probe found.

    Args:
        probe: the model's fields of that name.
        egress_path: the folder of the host's egress keeper; empty: its guests have no way out.

    Raises:
        ValidationError: another folder, while the proxy of the present one serves guests. Nobody could close
            what it lets through.
    """
    served = Runtime.objects.filter(host__name=name, egress=True).exclude(host__egress_path=egress_path)
    if served.exists():
        raise ValidationError(
            f"The egress keeper of {name} serves guests. Keep --egress as it is, or delete them first."
        )
    places = {"uri": uri, "pool_path": pool_path, "egress_path": egress_path}
    fields = {**places, "probed_at": timezone.now(), "problem": "", **probe}
    host, created = Host.objects.update_or_create(
        name=name, defaults={**fields, "seal": seal(Host(name=name, **fields))}
    )
    record(
        action="host.registered" if created else "host.probed",
        actor=actor,
        target=("host", host.pk),
        data={"name": name, "engine": host.engine},
    )
    return host


@transaction.atomic
def host_enable(*, actor: Actor, host: Host, enabled: bool) -> None:
    """Open a host for new runtimes, or close it."""
    host.enabled = enabled
    host.save(update_fields=["enabled"])
    record(action="host.enabled" if enabled else "host.drained", actor=actor, target=("host", host.pk))
