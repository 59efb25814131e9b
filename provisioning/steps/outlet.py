"""Steps that set and close a runtime's way out: its part of the rules that the host's proxy follows."""

from provisioning.egress import delivery
from provisioning.models import Operation
from provisioning.steps.context import Context
from provisioning.steps.removal import on_host


def serve(context: Context) -> None:
    """Have the proxy serve the runtime, and nobody else at its address, before the machine can exist."""
    host = context.runtime.host
    able = host is not None and bool(host.egress_path)
    with context.changing() as runtime:
        runtime.egress = able
    if host is None or not able:
        context.progress("This host has no egress proxy: the guest will reach nothing outside.")
        return
    delivery.confirm(host.pk, context.driver)


def unserve(context: Context) -> None:
    """Have the proxy forget the runtime, before its address can become another's."""
    with context.changing() as runtime:
        runtime.egress, runtime.egress_hosts, runtime.egress_at = False, [], None
    _take_off(context)


@on_host
def _take_off(context: Context) -> None:
    host = context.runtime.host
    if host is None or not host.egress_path:
        return
    try:
        delivery.confirm(host.pk, context.driver)
    except delivery.NotInForce:
        if context.operation.kind != Operation.Kind.FORCE_DELETE:
            raise
        context.progress("The egress keeper has not confirmed; it follows the newest rules once it runs.")
