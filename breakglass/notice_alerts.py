"""People who should have been told of access and were not, for the staff's pages."""

from datetime import timedelta

from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone

from audit.alerts import SHOWN, Alert, source
from breakglass.models import Notice, Ticket

LATELY = timedelta(days=7)
"""How long one that failed for good is shown: nobody can mend it, only talk to those who were not told."""
_WEIGHTY = Q(kind__in=[Notice.Kind.EMERGENCY, Notice.Kind.STARTED]) | Q(ticket__kind=Ticket.Kind.EMERGENCY)
"""Those that are the price of access."""


@source
def notice_alerts() -> list[Alert]:
    """Notices of emergencies and of access that began, which reached nobody; and a portal without mail."""
    lost = Notice.objects.filter(
        sent_at=None, attempts__gte=Notice.MAX_ATTEMPTS, due_at__gte=timezone.now() - LATELY
    ).exclude(failed="")
    return [*_unserved(lost.filter(failed="no_mail_server")), *_unheard(lost.filter(_WEIGHTY))]


def _unserved(lost: QuerySet[Notice]) -> list[Alert]:
    last = lost.aggregate(last=Max("due_at"))["last"]
    words = "Notices of break-glass reach nobody by mail: set PORTAL_MAIL_HOST for the workers."
    return [Alert("notices_no_mail_server", "alert", words, last)] if last else []


def _unheard(lost: QuerySet[Notice]) -> list[Alert]:
    found = (
        lost.order_by().values("ticket").annotate(last=Max("due_at"), people=Count("pk")).order_by("-last")
    )
    return [
        Alert(
            "notice_failed",
            "alert",
            "Somebody who must hear of break-glass access was not told. Look at Notices, and tell them.",
            row["last"],
            f"ticket {row['ticket']}: {row['people']} notices",
        )
        for row in found[:SHOWN]
    ]
