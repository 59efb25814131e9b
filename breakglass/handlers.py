"""What this room does when it, or a room below, tells of a change."""

import uuid
from typing import Any

from django.dispatch import receiver

from breakglass.models import GuestApprovers, TenantApprovers, Ticket
from breakglass.signals import approvers_changed, terms_changed, ticket_changed
from provisioning.models import Runtime
from provisioning.services import tell_worker
from provisioning.starting import at_start, at_status

APPLY = "breakglass.pushing_tasks.approvers_apply"
at_start("breakglass.pushing.confirm")
at_status("breakglass.strays.end")


@receiver(approvers_changed)
@receiver(terms_changed)
def guests_are_told(sender: Any, tenant_id: uuid.UUID | None = None, **kwargs: Any) -> None:
    """Have the tenant's guest told, or every guest whose owner has named approvers."""
    running = Runtime.objects.filter(phase=Runtime.Phase.READY)
    if tenant_id is not None:
        running = running.filter(tenant=tenant_id)
    else:
        named = TenantApprovers.objects.values("tenant")
        holding = GuestApprovers.objects.exclude(told_set=0).values("runtime")
        running = running.filter(tenant__in=named) | running.filter(pk__in=holding)
    for runtime_id in running.values_list("pk", flat=True):
        tell_worker(APPLY, runtime_id)


@receiver(ticket_changed)
def grants_are_carried(sender: Any, ticket_id: uuid.UUID, state: str, **kwargs: Any) -> None:
    """Have the guest told that access begins, or that the ticket is over, also of one that never began."""
    if state not in Ticket.WAITING:
        tell_worker("breakglass.tasks.grant_apply", ticket_id)


@receiver(ticket_changed)
def emergencies_are_told(sender: Any, ticket_id: uuid.UUID, state: str, **kwargs: Any) -> None:
    """Being told of is the price of an emergency's few approvals: it waits behind nothing."""
    if Ticket.objects.filter(pk=ticket_id, kind=Ticket.Kind.EMERGENCY).exists():
        tell_worker("breakglass.notice_tasks.emergency_send", ticket_id)
