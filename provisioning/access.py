"""Carries the wish to close or reopen a guest's content routes to the guest itself.

The portal may always close. It cannot open: reopening only lets members sign in again with their own keys.
"""

import uuid

from django.db.models import Q, QuerySet

from provisioning.models import Runtime
from provisioning.runtime_client import RuntimeClient
from provisioning.selectors import ready_runtime, settled

_UNCONFIRMED = Q(access_closed_by="", access_closed_seen=True) | (
    ~Q(access_closed_by="") & Q(access_closed_seen=False)
)


def unconfirmed() -> QuerySet[Runtime]:
    """Runtimes that run and whose guest has not confirmed what is wanted."""
    return settled().filter(_UNCONFIRMED)


def apply(runtime_id: uuid.UUID) -> None:
    """Tell the guest, and note what it confirms. One that is not running is told at its next start.

    Raises:
        AgentUnreachable, AgentRefused: the guest does not answer; the sweeper tries again.
        DriverError: its host does not answer.
    """
    runtime = ready_runtime(runtime_id)
    if runtime is not None:
        confirm(runtime, RuntimeClient.dial(runtime))


def confirm(runtime: Runtime, client: RuntimeClient) -> None:
    """Tell the guest that answers on ``client`` and note what it confirms."""
    closed = client.set_suspended(bool(runtime.access_closed_by)).get("suspended") is True
    Runtime.objects.filter(pk=runtime.pk).update(access_closed_seen=closed)
