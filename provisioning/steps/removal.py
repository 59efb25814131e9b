"""Steps that take a runtime away. Each tolerates that its object is gone already.

A forced deletion goes on when the host cannot be reached: the key is destroyed, so what stays on the
host is noise, and `fleet_audit` lists it once the host is back.
"""

from collections.abc import Callable
from functools import wraps

from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from provisioning.driver import HostUnreachable
from provisioning.models import Operation, Runtime
from provisioning.quotas import set_spare
from provisioning.steps.context import Context
from tenants.services.secrets import lost as secrets_lost


def on_host(action: Callable[[Context], None]) -> Callable[[Context], None]:
    """Skip where there is no host; when forced, go on past a host that cannot be reached."""

    @wraps(action)
    def guarded(context: Context) -> None:
        if context.runtime.host is None:
            return
        try:
            action(context)
        except HostUnreachable:
            if context.operation.kind != Operation.Kind.FORCE_DELETE:
                raise
            context.progress("Left on the host, which cannot be reached.")

    return guarded


def shred(context: Context) -> None:
    """Destroy the volume's key first: from here on the data cannot be read by anybody."""
    with context.changing() as runtime:
        if runtime.volume_key is not None:
            runtime.volume_key = None
            runtime.enrolment_secret = None
            # The guest's own key goes with its volume: what was sealed to it opens nowhere any more.
            runtime.sealing_public_key = ""
            secrets_lost(runtime.tenant_id, "machine_deleted")
            record(
                action="runtime.key_destroyed",
                actor=SYSTEM,
                tenant_id=runtime.tenant_id,
                target=("runtime", runtime.pk),
            )
    _remove_secret(context)


@on_host
def _remove_secret(context: Context) -> None:
    context.driver.remove_secret(context.runtime.pk)


@on_host
def power_off(context: Context) -> None:
    """Cut the power."""
    context.driver.destroy(context.runtime.pk)
    with context.changing() as runtime:
        runtime.power, runtime.power_seen_at = Runtime.Power.OFF, timezone.now()


@on_host
def undefine(context: Context) -> None:
    """Remove the machine and its papers."""
    context.driver.remove_domain(context.runtime.pk)
    context.driver.remove_personalisation(context.runtime.pk)


@on_host
def remove_filter(context: Context) -> None:
    """Remove the packet filter."""
    context.driver.remove_filter(context.runtime.pk)


@on_host
def remove_network(context: Context) -> None:
    """Remove the bridge."""
    context.driver.remove_network(context.runtime.pk)


@on_host
def remove_volume(context: Context) -> None:
    """Remove the data volume."""
    context.driver.remove_volume(context.runtime.pk)


def release(context: Context) -> None:
    """Give back host and quota."""
    with context.changing() as runtime:
        runtime.host, runtime.reserved = None, False
        set_spare(runtime)
        runtime.power = Runtime.Power.ABSENT
