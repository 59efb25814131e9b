"""Steps that change a machine's size, and what brings the former size back.

The row says what every other step builds, so it changes first; room for the other size stays reserved until
the operation ends. A disk that has grown stays so: nothing is cut off, whatever comes of the rest.
"""

import time

from django.utils import timezone

from provisioning.driver import DriverError, HostUnreachable, Power
from provisioning.models import Resize, Runtime
from provisioning.quotas import Size, set_size, set_spare
from provisioning.specs import SealBroken, runtime_spec
from provisioning.steps import boot, build, outlet, sealed
from provisioning.steps.context import Context, StepFailed, Wait

REVIVALS = 3
"""How often a machine whose change of size failed is brought up again before it is left off."""


def resize(context: Context) -> None:
    """Give the row the new size."""
    wanted = _resize_of(context)
    _take(context, wanted.after, wanted.before)


def tune(context: Context) -> None:
    """Bring a machine that runs to the row's size, as far as that can be; one that is off learns it later."""
    runtime = context.runtime
    if context.driver.power(runtime.pk) is Power.RUNNING:
        context.driver.tune(runtime_spec(runtime))
        context.driver.grow_volume(runtime_spec(runtime))


def restore(context: Context) -> None:
    """Give row, definition and running machine the former size back, but for a disk that has grown."""
    wanted = _resize_of(context)
    grown = context.driver.volume_gib(context.runtime.pk) or 0
    former = {**wanted.before, "disk_gib": max(wanted.before["disk_gib"], grown)}
    _take(context, former, wanted.after)
    build.define(context)
    tune(context)


def revive(context: Context) -> None:
    """Bring the machine up again as it was. One that does not come up is left off, for people to look at."""
    try:
        _boot(context)
    except (StepFailed, DriverError) as error:
        if isinstance(error, HostUnreachable) and not isinstance(error, SealBroken):
            # Nothing can be left off there either, and none of the tries is spent.
            raise Wait(f"Trying again: {error.message}") from None
        if error.retryable and context.attempts < REVIVALS:
            raise
        _leave_off(context, error.message)


def _leave_off(context: Context, why: str) -> None:
    context.driver.destroy(context.runtime.pk)
    with context.changing() as runtime:
        runtime.power, runtime.power_seen_at = Runtime.Power.OFF, timezone.now()
    context.progress(f"Not brought up again: {why}")


def _boot(context: Context) -> None:
    build.check_image(context)
    build.make_keys(context)
    build.personalise(context)
    build.make_network(context)
    build.make_filter(context)
    outlet.serve(context)
    build.define(context)
    boot.start(context)
    boot.await_guest(context, time.time(), cancellable=False)
    boot.enrol(context)
    boot.configure(context)
    sealed.deliver(context)
    boot.confirm(context)


def _take(context: Context, size: Size, other: Size) -> None:
    with context.changing() as runtime:
        set_size(runtime, size)
        set_spare(runtime, other)


def _resize_of(context: Context) -> Resize:
    return Resize.objects.get(operation=context.lease.operation_id)
