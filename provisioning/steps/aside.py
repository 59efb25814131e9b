"""Steps that set a machine aside, and that put small things right on one that runs."""

from django.utils import timezone

from provisioning.models import Runtime
from provisioning.steps.context import Context


def suspend(context: Context) -> None:
    """Pause the machine; its memory stays for whoever looks into it. One that is off stays off."""
    context.driver.suspend(context.runtime.pk)
    power = context.driver.power(context.runtime.pk)
    with context.changing() as runtime:
        runtime.power, runtime.power_seen_at = power.value, timezone.now()


def cut(context: Context) -> None:
    """Unplug every interface, also those that somebody added, and have the proxy forget the runtime.

    The proxy is not waited for: nothing comes out of an unplugged machine, and a keeper that does not answer
    must not keep staff from what comes next. The sweeper sends it the rules.
    """
    context.driver.cut(context.runtime.pk)
    with context.changing() as runtime:
        runtime.egress, runtime.egress_hosts, runtime.egress_at = False, [], None


def settle(context: Context) -> None:
    """Plug the machine in, unless it is in quarantine, and see that it does not start with the host."""
    if context.runtime.phase != Runtime.Phase.QUARANTINED:
        context.driver.settle(context.runtime.pk)
