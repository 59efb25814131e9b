"""What the portal meant to happen in guests against what guests say happened.

Before each request an operator's token is written down (:class:`Intent`), and for each the guest keeps a
receipt that names the token. A use that nobody here meant is the worst that this room can tell: somebody has
the route key and a session in the guest. The reverse may be a browser that went away before nginx had carried
its request, or a guest that keeps no receipts.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import groupby
from operator import or_
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, Min, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from breakglass.models import Intent, Mismatch, Receipt, Ticket
from provisioning.models import Runtime

SETTLE = timedelta(seconds=30)
"""How long an intent may go without its receipt: as long as nginx and the guest may take for it."""
LOOKED_BACK = timedelta(days=2)
UNREAD = timedelta(minutes=2)
"""How long what was done in a guest may go without a look at its receipts: longer than it takes to start."""
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
MOST = 20
"""Open alarms of a use that nobody meant, of one guest. It writes as many such receipts as it likes."""
SPARE, PER_TICKET, PER_INTENT = 1000, 250, 3
"""How long a guest's chain may be: so many receipts, and more for each ticket begun and each request let in.

A ticket leaves its grant, sessions, end and up to 100 refusals; a request leaves an access and its outcome.
"""
RECEIPTED = frozenset(
    {
        ("DELETE", "/v1/break-glass/files"),
        ("GET", "/v1/break-glass/files"),
        ("GET", "/v1/break-glass/list"),
        ("GET", "/v1/break-glass/logs"),
        ("GET", "/v1/break-glass/logs/read"),
        ("GET", "/v1/break-glass/status"),
        ("POST", "/v1/break-glass/exec"),
        ("POST", "/v1/break-glass/folders"),
        ("PUT", "/v1/break-glass/files"),
    }
)
"""Routes each of whose requests the guest notes; a test compares them with the agent's scopes."""
USES = frozenset({"session", "access", "refused"})
Kind = Mismatch.Kind


def unmeant(runtime: Runtime, fresh: Sequence[Receipt]) -> list[Receipt]:
    """A use without an intent, a grant that nobody began, and whatever is about no ticket of this guest."""
    named = Ticket.objects.filter(runtime=runtime, pk__in={each.ticket_id for each in fresh})
    begun = {ticket: started is not None for ticket, started in named.values_list("pk", "started_at")}
    meant = dict(
        Intent.objects.filter(
            token__in={each.token for each in fresh if _is_use(each)}, ticket__runtime=runtime
        ).values_list("token", "ticket_id")
    )
    return [
        each
        for each in fresh
        if each.ticket_id not in begun
        or (each.event == "granted" and not begun[each.ticket_id])
        or (_is_use(each) and meant.get(each.token) != each.ticket_id)
    ]


def alarm(runtime: Runtime, unmeant: Sequence[Receipt]) -> None:
    """Raise the alarm for receipts that :func:`unmeant` found, in the caller's transaction.

    Not for all of a great many: the guest is as red with twenty, and the others are in its chain.
    """
    known = Mismatch.objects.filter(runtime=runtime, kind=Kind.NO_INTENT, acknowledged_at=None).count()
    for receipt in unmeant[: max(0, MOST - known)]:
        mismatch(runtime, Kind.NO_INTENT, seq=receipt.seq, token=receipt.token, ticket=receipt.ticket_id)


def longest(runtime: Runtime) -> int:
    """How many receipts a guest can have that notes each thing that was done in it, and many to spare."""
    begun = Ticket.objects.filter(runtime=runtime, started_at__isnull=False).count()
    let_in = Intent.objects.filter(ticket__runtime=runtime).count()
    return SPARE + PER_TICKET * begun + PER_INTENT * let_in


def missing() -> QuerySet[Intent]:
    """Intents without a receipt, though the guest's receipts were read well after them, and fit.

    None of a ticket whose alarm stands, or was looked into later than that: one is for all of its requests.
    """
    noted = Receipt.objects.filter(runtime=OuterRef("ticket__runtime"), token=OuterRef("token"))
    known = Mismatch.objects.filter(
        Q(acknowledged_at=None) | Q(acknowledged_at__gte=OuterRef("at")),
        runtime=OuterRef("ticket__runtime"),
        kind=Kind.NO_RECEIPT,
        ticket=OuterRef("ticket"),
    )
    read_at = F("ticket__runtime__receipt_head__at")
    return Intent.objects.filter(
        _receipted(),
        ~Exists(noted),
        ~Exists(known),
        ticket__runtime__receipt_head__trouble="",
        at__gte=read_at - LOOKED_BACK,
        at__lte=read_at - SETTLE,
    )


def note_missing() -> None:
    """Raise one alarm for each ticket with such an intent, which names the first, each by itself."""
    firsts = missing().order_by().values("ticket").annotate(first=Min("pk")).values("first")
    for intent in Intent.objects.filter(pk__in=list(firsts.values_list("first", flat=True))):
        runtime = intent.ticket.runtime
        with transaction.atomic():
            mismatch(runtime, Kind.NO_RECEIPT, token=intent.token, ticket=intent.ticket_id)


def unread() -> QuerySet[Ticket]:
    """Begun tickets under which something was done a while ago that no look at the receipts came after.

    So a guest that answers everything but the question for its receipts is seen, too.
    """
    late, read = timezone.now() - UNREAD, F("read_at")
    let_in = Intent.objects.filter(ticket=OuterRef("pk"), at__lte=late, at__gt=OuterRef("read_at"))
    begun = Ticket.objects.filter(started_at__isnull=False, runtime__phase=Runtime.Phase.READY)
    return (
        begun.exclude(runtime__agent_address="")
        .annotate(read_at=Coalesce("runtime__receipt_head__at", Value(NEVER)))
        .filter(
            # What has long been read is not asked again: each page of the staff's asks this.
            Q(ended_at=None) | Q(ended_at__gt=read) | Q(end_confirmed_at__gt=read),
            Exists(let_in)
            | Q(delivered_at__lte=late, delivered_at__gt=read)
            | Q(end_confirmed_at__lte=late, end_confirmed_at__gt=read),
        )
    )


def mismatch(
    runtime: Runtime, kind: str, *, seq: int = 0, token: str = "", ticket: UUID | None = None, code: str = ""
) -> None:
    """Raise the alarm once, with its entry, in the caller's transaction."""
    _, made = Mismatch.objects.get_or_create(
        runtime=runtime, kind=kind, token=token, seq=seq, defaults={"ticket": ticket}
    )
    if made:
        about = {"kind": str(kind), "seq": seq, "token": token, "code": code}
        record(
            action="break_glass.mismatch",
            actor=SYSTEM,
            tenant_id=runtime.tenant_id,
            target=("runtime", runtime.pk),
            data={name: value for name, value in about.items() if value},
        )


def _receipted() -> Q:
    by_method = groupby(sorted(RECEIPTED), key=lambda pair: pair[0])
    return reduce(or_, (Q(method=name, route__in=[path for _, path in pairs]) for name, pairs in by_method))


def _is_use(receipt: Receipt) -> bool:
    return receipt.event in USES and not _is_grants(receipt)


def _is_grants(receipt: Receipt) -> bool:
    """Whether it tells of a grant that was refused: that came on the control plane's own token."""
    detail = json.loads(receipt.text)["detail"]
    return receipt.event == "refused" and detail.get("of") == "grant"
