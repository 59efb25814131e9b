"""Libvirt is the truth about power: what a host shows is written down, never acted upon here.

A missing domain is drift to report, not a row to delete. These writes are telemetry and leave no audit
entry (docs/adr/0002-audit-scope.md).
"""

from django.db.models import QuerySet
from django.utils import timezone

from provisioning.driver import DriverError, connect
from provisioning.models import Host, Operation, Runtime
from provisioning.specs import host_spec


def observe(host: Host) -> None:
    """Write down the power of every runtime on ``host``; mark them unknown when it does not answer."""
    now = timezone.now()
    try:
        with connect(host_spec(host)) as driver:
            powers = driver.powers()
    except DriverError as error:
        Host.objects.filter(pk=host.pk).update(problem=error.message[:300])
        _settled(host).update(power=Runtime.Power.UNKNOWN, power_seen_at=now)
        return
    Host.objects.filter(pk=host.pk).update(seen_at=now, problem="")
    for runtime in _settled(host):
        power = powers.get(runtime.pk)
        seen = power.value if power is not None else Runtime.Power.ABSENT
        Runtime.objects.filter(pk=runtime.pk).exclude(operations__state__in=Operation.ACTIVE).update(
            power=seen, power_seen_at=now
        )


def _settled(host: Host) -> QuerySet[Runtime]:
    """Runtimes that no operation is changing; an operation writes the power itself."""
    return Runtime.objects.filter(host=host).exclude(operations__state__in=Operation.ACTIVE)
