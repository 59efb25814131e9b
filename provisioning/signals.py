"""What this room does when the one below tells of a change."""

import uuid
from typing import Any

from django.dispatch import receiver

from provisioning.models import Runtime
from provisioning.services import tell_worker
from tenants.models import Tenant
from tenants.services.offboarding import hold
from tenants.signals import connectors_changed, members_changed, secrets_changed


@receiver(members_changed)
def members_are_delivered(sender: Any, tenant_id: uuid.UUID, **kwargs: Any) -> None:
    """Have the tenant's guest told; one that does not run is told at its next start."""
    for runtime in Runtime.objects.filter(tenant=tenant_id, phase=Runtime.Phase.READY):
        tell_worker("provisioning.tasks.members_apply", runtime.pk)


@receiver(secrets_changed)
def secrets_are_delivered(sender: Any, tenant_id: uuid.UUID, **kwargs: Any) -> None:
    """Have the tenant's guest told; one that does not run is told at its next start."""
    for runtime in Runtime.objects.filter(tenant=tenant_id, phase=Runtime.Phase.READY):
        tell_worker("provisioning.tasks.secrets_apply", runtime.pk)


@receiver(connectors_changed)
def connectors_are_applied(sender: Any, tenant_id: uuid.UUID, **kwargs: Any) -> None:
    """Have the proxy told that serves the tenant's guest."""
    served = Runtime.objects.filter(tenant=tenant_id, egress=True).exclude(host=None)
    for host_id in served.values_list("host", flat=True):
        tell_worker("provisioning.tasks.egress_apply", host_id)


@hold
def a_runtime_keeps_its_tenant(tenant: Tenant) -> str:
    """Nobody is offboarded while a machine of theirs is left."""
    left = Runtime.objects.filter(tenant=tenant).exclude(phase=Runtime.Phase.DELETED)
    return f"{tenant.name} has a runtime. Delete it first." if left.exists() else ""
