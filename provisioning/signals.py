"""What this room does when the one below tells of a change."""

import uuid
from typing import Any

from django.dispatch import receiver

from provisioning.models import Runtime
from provisioning.services import tell_worker
from tenants.signals import members_changed


@receiver(members_changed)
def members_are_delivered(sender: Any, tenant_id: uuid.UUID, **kwargs: Any) -> None:
    """Have the tenant's guest told; one that does not run is told at its next start."""
    for runtime in Runtime.objects.filter(tenant=tenant_id, phase=Runtime.Phase.READY):
        tell_worker("provisioning.tasks.members_apply", runtime.pk)
