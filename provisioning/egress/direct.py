"""Packets by which guests tried to pass the proxy by. The host counts them, from its own start on."""

from django.db.models import F
from django.utils import timezone

from provisioning.egress.reports import Dropped, Report
from provisioning.models import Host, Runtime


def count(host: Host, report: Report) -> None:
    """Add what the counters of ``host`` show more than when we last looked."""
    for runtime in Runtime.objects.filter(host=host, pk__in=report.dropped):
        _add(runtime, report.dropped[runtime.pk])


def _add(runtime: Runtime, now: Dropped) -> None:
    seen = Dropped(runtime.direct_seen_packets, runtime.direct_seen_bytes)
    if now == seen:
        return
    began_anew = now.packets < seen.packets or now.bytes < seen.bytes
    since = Dropped(0, 0) if began_anew else seen
    # Two who count at once: the second finds another figure than it read, and adds nothing.
    Runtime.objects.filter(
        pk=runtime.pk, direct_seen_packets=seen.packets, direct_seen_bytes=seen.bytes
    ).update(
        direct_seen_packets=now.packets,
        direct_seen_bytes=now.bytes,
        direct_packets=F("direct_packets") + now.packets - since.packets,
        direct_bytes=F("direct_bytes") + now.bytes - since.bytes,
        direct_at=timezone.now(),
    )
