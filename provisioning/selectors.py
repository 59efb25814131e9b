"""Every read of runtimes and operations, scoped by the person who reads."""

import uuid
from datetime import datetime

from django.contrib.auth.models import User
from django.db.models import F, Prefetch, Q, QuerySet, Sum

from provisioning.models import DriftFinding, EgressRecord, GuestImage, Host, Operation, Runtime, Step
from tenants.selectors import Person, allowed_hosts, tenants_for

GIB_IN_MIB = 1024


def runtimes_for(user: Person) -> QuerySet[Runtime]:
    """The runtimes that ``user`` may know of."""
    return Runtime.objects.filter(tenant__in=tenants_for(user)).select_related("tenant", "host", "image")


def settled() -> QuerySet[Runtime]:
    """Runtimes whose guest should answer and which no operation is changing."""
    return Runtime.objects.filter(phase=Runtime.Phase.READY).exclude(operations__state__in=Operation.ACTIVE)


def ready_runtime(runtime_id: uuid.UUID) -> Runtime | None:
    """The runtime, with all that a call to its guest needs; None unless it is ready."""
    found = Runtime.objects.select_related("tenant", "host", "image")
    return found.filter(pk=runtime_id, phase=Runtime.Phase.READY).first()


def operations_for(user: Person) -> QuerySet[Operation]:
    """The operations that ``user`` may know of, with their steps."""
    return (
        Operation.objects.filter(runtime__tenant__in=tenants_for(user))
        .select_related("runtime__tenant", "runtime__host")
        .prefetch_related(Prefetch("steps", Step.objects.order_by("index")))
    )


def drift_for(user: Person) -> QuerySet[DriftFinding]:
    """Drift of the runtimes that ``user`` may know of; of the hosts themselves, if they may see those."""
    scope = Q(runtime__tenant__in=tenants_for(user))
    if isinstance(user, User) and user.has_perm("provisioning.view_host"):
        scope |= Q(runtime=None)
    return DriftFinding.objects.filter(scope).select_related("host", "runtime__tenant")


def current_image() -> GuestImage | None:
    """The image that new and rebuilt runtimes boot: the newest that is not retired."""
    return GuestImage.objects.filter(retired=False).order_by("-registered_at", "-pk").first()


def reserved_on(host: Host) -> dict[str, int]:
    """What runtimes hold on ``host``, stopped and unreachable ones included."""
    held = Runtime.objects.filter(host=host, reserved=True).aggregate(
        vcpus=Sum(F("vcpus") + F("spare_vcpus")),
        memory_mib=Sum(F("memory_mib") + F("spare_memory_mib")),
        disk_gib=Sum(F("disk_gib") + F("spare_disk_gib")),
    )
    return {name: value or 0 for name, value in held.items()}


VCPUS_PROMISED = 4
"""Processors are shared in time, so they may be promised so many times over; memory and disk may not."""


def room_of(host: Host) -> dict[str, int]:
    """What may be promised on ``host`` in all."""
    return {
        "vcpus": VCPUS_PROMISED * host.vcpus,
        "memory_mib": host.memory_mib,
        "disk_gib": host.disk_gib,
    }


def lacking(host: Host, runtime: Runtime, held: dict[str, int]) -> list[str]:
    """What ``host`` lacks for ``runtime``, in words; empty if it fits."""
    return short_of(host, {name: getattr(runtime, name) for name in room_of(host)}, held)


def short_of(host: Host, needs: dict[str, int], held: dict[str, int]) -> list[str]:
    """What ``host`` lacks for ``needs`` besides what is held, in words; what is not needed is not lacking."""
    words = {"vcpus": "vCPUs", "memory_mib": "MiB of memory", "disk_gib": "GiB of disk"}
    free = {name: room - held[name] for name, room in room_of(host).items()}
    return [
        f"needs {need} {words[name]}, {max(free[name], 0)} free"
        for name, need in needs.items()
        if need > max(free[name], 0)
    ]


def queue_position(operation: Operation) -> int:
    """How many older operations are waiting for the same thing, plus one."""
    return (
        1
        + Operation.objects.filter(
            state__in=Operation.ACTIVE, created_at__lt=operation.created_at, holds_slot=False
        )
        .exclude(wait_reason="")
        .count()
    )


def egress_records_for(user: Person) -> QuerySet[EgressRecord]:
    """The attempts to reach the outside that ``user`` may know of, the newest first."""
    return EgressRecord.objects.filter(tenant__in=tenants_for(user)).select_related("tenant")


def egress_in_force(tenant_id: uuid.UUID) -> datetime | None:
    """Since when the proxy lets the tenant's machine reach just what its connectors allow now.

    None: a change is still under way, no proxy serves the machine, or it is set aside and reaches nothing.
    """
    runtime = Runtime.objects.filter(tenant=tenant_id, egress=True).exclude(egress_at=None).first()
    if runtime is None or runtime.phase == Runtime.Phase.QUARANTINED:
        return None
    wanted = sorted([name, port] for name, port in allowed_hosts(tenant_id))
    return runtime.egress_at if runtime.egress_hosts == wanted else None
