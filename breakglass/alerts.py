"""What is wrong with access to guests, for the staff's pages."""

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from audit.alerts import SHOWN, Alert, source
from breakglass.clock import Clock
from breakglass.models import Mismatch
from breakglass.owing import unended
from provisioning.models import Runtime

PATIENCE = timedelta(seconds=30)
"""How long a guest that runs may take to confirm that access is over."""
LONGEST = timedelta(hours=4)
WORDS = {
    Mismatch.Kind.NO_INTENT: "A guest was used by break-glass without an entry here: somebody may hold the "
    "portal's route key.",
    Mismatch.Kind.NO_RECEIPT: "A guest keeps no receipt of a request that was let through to it.",
    Mismatch.Kind.CHAIN: "A guest's receipts of break-glass do not follow each other.",
    Mismatch.Kind.FORKED: "A guest shows other receipts of break-glass than before.",
}
QUIET = {Mismatch.Kind.NO_RECEIPT}
"""Not on every page: a browser that went away before its request was carried looks the same."""


@source
def alerts() -> list[Alert]:
    """Mismatches that nobody has looked into, and ends that no guest has confirmed."""
    return [*_mismatches(), *_unconfirmed()]


def _mismatches() -> list[Alert]:
    rows = Mismatch.objects.filter(acknowledged_at=None).select_related("runtime__tenant")
    return [
        Alert(
            "access_mismatch",
            "alert" if row.kind in QUIET else "loud",
            WORDS[Mismatch.Kind(row.kind)],
            row.found_at,
            str(row.runtime),
        )
        for row in rows[:SHOWN]
    ]


def _unconfirmed() -> list[Alert]:
    """Of access that was begun; where the machine is not ready, until its own clock has ended it."""
    ran = unended().filter(started_at__isnull=False, ended_at__lte=timezone.now() - PATIENCE)
    ready = Q(runtime__phase=Runtime.Phase.READY)
    # Without the guest's word for its end: the latest that any access of the ticket could reach.
    unsaid = Q(guest_until=None, wait_until__gt=timezone.now() - LONGEST)
    late = ran.filter(ready | unsaid | Q(guest_until__gt=Clock())).select_related("runtime__tenant")
    return [
        Alert(
            "access_not_ended",
            "loud",
            "A guest that runs, or may run, has not confirmed that break-glass access is over. Its own clock "
            "ends it; to end it now, stop the machine.",
            row.ended_at or timezone.now(),
            str(row.runtime),
        )
        for row in late.order_by("ended_at")[:SHOWN]
    ]
