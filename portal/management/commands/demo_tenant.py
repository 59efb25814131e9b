import time
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.context import command
from provisioning.models import Operation, Runtime
from provisioning.sequences import LABELS
from provisioning.services import operation_request, runtime_create
from tenants.models import Membership, Plan, Tenant
from tenants.services import connector_allow, membership_add, plan_save, tenant_create

ACTOR = command("demo_tenant")


class Command(BaseCommand):
    help = "Create the demo tenant and its runtime, once; start it if it is stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wait", action="store_true", help="until the guest answers over mutual TLS")
        parser.add_argument("--seconds", type=float, default=600)

    def handle(self, *args: Any, **given: Any) -> None:
        tenant = self._tenant()
        runtime = tenant.runtimes.exclude(phase=Runtime.Phase.DELETED).first()
        if runtime is None:
            operation: Operation | None = runtime_create(actor=ACTOR, tenant=tenant)
        else:
            operation = runtime.operations.filter(state__in=Operation.ACTIVE).first()
            if operation is None and runtime.phase != Runtime.Phase.READY:
                kind = Operation.Kind.START if runtime.first_ready_at else Operation.Kind.CREATE
                operation = operation_request(actor=ACTOR, runtime_id=runtime.pk, kind=kind)
        if operation is not None and given["wait"]:
            self._wait(operation, given["seconds"])
        self.stdout.write(
            f"tenant {tenant.slug}: ready" if given["wait"] else f"tenant {tenant.slug}: requested"
        )

    def _tenant(self) -> Tenant:
        plan = Plan.objects.filter(slug="small").first() or plan_save(
            actor=ACTOR,
            plan=Plan(slug="small", name="Small", vcpus=1, memory_mib=512, disk_gib=2, cost_floor_cents=4900),
        )
        tenant = Tenant.objects.filter(slug="acme").first() or tenant_create(
            actor=ACTOR, slug="acme", name="Acme Ltd", plan=plan, price_cents=4900
        )
        connector_allow(actor=ACTOR, tenant=tenant, connector="github")
        owner = User.objects.filter(username="owner").first()
        if owner is not None and not tenant.memberships.filter(user=owner).exists():
            membership_add(actor=ACTOR, tenant=tenant, user=owner, role=Membership.Role.OWNER)
        return tenant

    def _wait(self, operation: Operation, seconds: float) -> None:
        begun = time.monotonic()
        shown: set[str] = set()
        while time.monotonic() - begun < seconds:
            operation.refresh_from_db()
            for step in operation.steps.all():
                mark = f"{step.name}:{step.state}"
                if step.state in {"running", "done", "failed"} and mark not in shown:
                    shown.add(mark)
                    if step.state != "running" or step.name == "reach":
                        took = f" ({step.seconds:.1f} s)" if step.seconds is not None else ""
                        self.stdout.write(f"  {step.state:8} {LABELS[step.name]}{took}")
            if operation.wait_reason and operation.wait_reason not in shown:
                shown.add(operation.wait_reason)
                self.stdout.write(f"  waiting  {operation.wait_reason}")
            if not operation.active:
                break
            time.sleep(0.5)
        if operation.state != Operation.State.SUCCEEDED:
            raise CommandError(
                f"{operation.get_kind_display()} {operation.state}: "
                f"{operation.error_message or operation.wait_reason or 'no worker took it in time'}"
            )
