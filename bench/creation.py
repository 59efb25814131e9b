"""One measured creation."""

import time
from dataclasses import dataclass

from audit.context import command
from bench import access, jobs, secrets
from provisioning import machine
from provisioning.models import Operation, Runtime
from provisioning.runtime_client import RuntimeClient
from provisioning.services import operation_request, runtime_create
from tenants.models import Plan, Tenant
from tenants.services import plan_save, tenant_create

ACTOR = command("bench")
REPORT_SECONDS = 30.0


@dataclass(frozen=True)
class Sample:
    """Seconds per step, in order, with their total; the guest's own boot times; members' requests; access."""

    steps: dict[str, float]
    boot: dict[str, float]
    asked: dict[str, float]
    access: dict[str, float]
    """Break-glass; of the first creation only."""


def create_and_delete(number: int) -> Sample:
    """Create a runtime, read its times, delete it.

    Raises:
        RuntimeError: an operation failed; the text is the operation's own.
    """
    tenant = _tenant(number)
    created = _finish(runtime_create(actor=ACTOR, tenant=tenant))
    runtime = Runtime.objects.get(pk=created.runtime_id)
    steps = {step.name: step.seconds or 0.0 for step in created.steps.all()}
    if created.started_at is not None and created.finished_at is not None:
        steps["create → ready"] = (created.finished_at - created.started_at).total_seconds()
    boot = _boot_stages(runtime)
    asked = jobs.measure(runtime) | secrets.measure(runtime)
    broken = access.measure(runtime) if number == 0 else {}
    _finish(
        operation_request(
            actor=ACTOR, runtime_id=runtime.pk, kind=Operation.Kind.DELETE, reason="measured, not needed"
        )
    )
    # Its place in the pilot is free again.
    Tenant.objects.filter(pk=tenant.pk).update(offboarded_at=created.finished_at)
    return Sample(steps, boot, asked, broken)


def _boot_stages(runtime: Runtime) -> dict[str, float]:
    """The guest's report of its boot, in seconds; it is complete a little after the guest answers."""
    client = RuntimeClient.dial(runtime)
    deadline = time.monotonic() + REPORT_SECONDS
    while time.monotonic() < deadline:
        stages = client.status().get("boot")
        if stages:
            return {name: float(seconds) for name, seconds in stages.items()}
        time.sleep(0.5)
    return {}


def _tenant(number: int) -> Tenant:
    plan = Plan.objects.filter(slug="bench").first() or plan_save(
        actor=ACTOR,
        plan=Plan(slug="bench", name="Bench", vcpus=1, memory_mib=512, disk_gib=2, cost_floor_cents=1),
    )
    return tenant_create(actor=ACTOR, slug=f"bench-{number}", name="Bench", plan=plan, price_cents=1)


def _finish(operation: Operation) -> Operation:
    while True:
        machine.run(operation.pk)
        operation.refresh_from_db()
        if operation.state == Operation.State.SUCCEEDED:
            return operation
        if not operation.active:
            raise RuntimeError(operation.error_message)
