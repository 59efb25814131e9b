"""What guests say that they use of their size: asked now and then, written down, never acted upon.

The guest could lie: these figures are for its own people to look at. Telemetry, and so no audit entry
(docs/adr/0002-audit-scope.md).
"""

import logging
from typing import Any, TypeGuard

from django.utils import timezone

from provisioning import starting
from provisioning.driver import DriverError
from provisioning.models import Operation, Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from provisioning.selectors import settled

log = logging.getLogger(__name__)
MIB, GIB = 1024**2, 1024**3
_MOST = 2**53


def observe_all() -> None:
    """Ask every guest that runs. One that does not answer keeps its last figures, with their time."""
    for runtime in settled().select_related("tenant", "host", "image"):
        try:
            observe(runtime)
        except (AgentUnreachable, AgentRefused, DriverError) as error:
            log.info("runtime %s: did not say what it uses: %s", runtime.pk, error)


def observe(runtime: Runtime) -> None:
    """Ask one.

    Raises:
        AgentUnreachable, AgentRefused: the guest does not answer.
        DriverError: its host does not answer.
    """
    client = RuntimeClient.dial(runtime)
    status = client.status()
    Runtime.objects.filter(pk=runtime.pk).exclude(operations__state__in=Operation.ACTIVE).update(
        usage=read(status), usage_at=timezone.now()
    )
    starting.read(runtime, status, client)


def read(status: dict[str, Any]) -> dict[str, int]:
    """The figures in a guest's status, by the quota that they belong to; what makes no sense is left out."""
    memory, volume, jobs = (_part(status, name) for name in ("memory", "data_volume", "jobs"))
    found = {
        "memory_mib": _less(memory.get("total_bytes"), memory.get("available_bytes"), MIB),
        "disk_mib": _less(volume.get("size_bytes"), volume.get("free_bytes"), MIB),
        "jobs_running": jobs.get("running"),
        "jobs_waiting": jobs.get("waiting"),
    }
    return {name: value for name, value in found.items() if _sound(value)}


def _part(status: dict[str, Any], name: str) -> dict[str, Any]:
    part = status.get(name)
    return part if isinstance(part, dict) else {}


def _less(total: Any, free: Any, unit: int) -> int | None:
    return (total - free) // unit if _sound(total) and _sound(free) else None


def _sound(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _MOST
