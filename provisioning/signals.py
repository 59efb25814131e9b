"""What this room does when the one below tells of a change."""

import uuid
from typing import Any

from django.dispatch import receiver

from provisioning.models import Runtime
from provisioning.services import tell_worker
from tenants.models import Tenant
from tenants.services.offboarding import hold
from tenants.signals import members_changed, secrets_changed


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


@hold
def a_runtime_keeps_its_tenant(tenant: Tenant) -> str:
    """Nobody is offboarded while a machine of theirs is left."""
    left = Runtime.objects.filter(tenant=tenant).exclude(phase=Runtime.Phase.DELETED)
    return f"{tenant.name} has a runtime. Delete it first." if left.exists() else ""
