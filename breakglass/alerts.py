"""What is wrong with access to guests, for the staff's pages."""

from datetime import timedelta

from django.db.models import Case, Count, Min, Q, When
from django.utils import timezone

from audit.alerts import SHOWN, Alert, source
from breakglass.clock import Clock
from breakglass.comparing import UNREAD, unread
from breakglass.models import Mismatch, ReceiptHead
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
REFUSED = "access_refused"
QUIET = {Mismatch.Kind.NO_RECEIPT}
"""Not on every page: a browser that went away before its request was carried looks the same."""


@source
def alerts() -> list[Alert]:
    """What nobody has looked into, guests that do not tell, and ends that no guest has confirmed."""
    return [*_mismatches(), *_unread(), *_refused(), *_unconfirmed()]


def _mismatches() -> list[Alert]:
    """One for each guest and kind: a guest that makes a thousand hides no other guest's."""
    rows = Mismatch.objects.filter(acknowledged_at=None).order_by().values("runtime", "kind")
    quiet = Case(When(kind__in=QUIET, then=1), default=0)
    found = rows.annotate(first=Min("found_at"), times=Count("pk")).order_by(quiet, "first")
    shown = list(found[:SHOWN])
    named = Runtime.objects.select_related("tenant").in_bulk([row["runtime"] for row in shown])
    return [
        Alert(
            "access_mismatch",
            "alert" if row["kind"] in QUIET else "loud",
            WORDS[Mismatch.Kind(row["kind"])] + (f" So {row['times']} times." if row["times"] > 1 else ""),
            row["first"],
            str(named[row["runtime"]]),
        )
        for row in shown
    ]


def _unread() -> list[Alert]:
    late = unread().select_related("runtime__tenant").order_by("started_at")
    guests = {ticket.runtime: ticket for ticket in late[: SHOWN * 5]}
    return [
        Alert(
            "access_unread",
            "loud",
            "A guest that runs has not told its receipts of break-glass for "
            f"{UNREAD.total_seconds() / 60:.0f} minutes or more, and it was used.",
            ticket.started_at or timezone.now(),
            str(runtime),
        )
        for runtime, ticket in list(guests.items())[:SHOWN]
    ]


def _refused() -> list[Alert]:
    """As long as it lasts: an alarm that was looked into ends, and what does not fit is still not read."""
    heads = ReceiptHead.objects.exclude(trouble="").exclude(runtime__phase=Runtime.Phase.DELETED)
    return [
        Alert(
            REFUSED,
            "loud",
            "A guest's receipts of break-glass are not read any more, because they do not fit.",
            head.at or timezone.now(),
            str(head.runtime),
        )
        for head in heads.select_related("runtime__tenant").order_by("at")[:SHOWN]
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
