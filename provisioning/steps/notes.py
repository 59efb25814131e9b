"""Notes of what a host was told, taken under its lease by the step that told it.

Taken afterwards: what a host refused, or was not told in time, would look like drift. A worker that dies in
between leaves the host as it would be told today, which is no drift either.
"""

from provisioning.drift.models import Told
from provisioning.driver import HostSpec, RuntimeSpec, xml
from provisioning.specs import host_spec, runtime_spec
from provisioning.steps.context import Context, StepFailed


def network(context: Context) -> None:
    """Of the private network."""
    _note(context, network=xml.network(*_specs(context)))


def packet_filter(context: Context) -> None:
    """Of the packet filter."""
    _note(context, filter=xml.packet_filter(*_specs(context)))


def machine(context: Context) -> None:
    """Of the machine's definition, which a running one takes up at its next start."""
    _note(context, machine=xml.domain(*_specs(context)))


def power_on(context: Context) -> None:
    """Of a machine that is off and about to run as it is defined: the one note taken before the deed."""
    told = Told.objects.filter(runtime=context.runtime).first()
    if told is not None:
        _note(context, running=told.machine)


def _specs(context: Context) -> tuple[HostSpec, RuntimeSpec]:
    runtime = context.runtime
    if runtime.host is None:
        raise StepFailed("no_host", "The runtime has no host.")
    return host_spec(runtime.host), runtime_spec(runtime)


def _note(context: Context, **texts: str) -> None:
    with context.lease.fenced() as operation:
        Told.objects.update_or_create(runtime=operation.runtime, defaults=texts)
