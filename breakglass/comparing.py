"""What the portal meant to happen in guests against what guests say happened.

Before each request an operator's token is written down (:class:`Intent`), and for each the guest keeps a
receipt that names the token. A use that nobody here meant is the worst that this room can tell: somebody has
the route key and a session in the guest. The reverse may be a browser that went away before nginx had carried
its request, or a guest that keeps no receipts.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from audit.context import SYSTEM
from audit.services import record
from breakglass.models import Intent, Mismatch, Receipt, ReceiptHead, Ticket
from provisioning.models import Runtime

SETTLE = timedelta(seconds=30)
"""How long an intent may go without its receipt: as long as nginx and the guest may take for it."""
LOOKED_BACK = timedelta(days=2)
MOST = 100
"""Alarms of this kind that one look at one guest raises."""
RECEIPTED = frozenset(
    {
        "/v1/break-glass/exec",
        "/v1/break-glass/files",
        "/v1/break-glass/folders",
        "/v1/break-glass/list",
        "/v1/break-glass/logs",
        "/v1/break-glass/logs/read",
        "/v1/break-glass/status",
    }
)
"""Routes each of whose requests the guest notes; a test compares them with the agent's scopes."""
USES = frozenset({"session", "access", "refused"})
Kind = Mismatch.Kind


def compare(runtime: Runtime, fresh: Sequence[Receipt]) -> None:
    """Find what in new receipts nobody here has meant, in the caller's transaction."""
    for receipt in _unmeant(runtime, fresh):
        mismatch(runtime, Kind.NO_INTENT, seq=receipt.seq, token=receipt.token, ticket=receipt.ticket_id)


def missing(runtime: Runtime, fetched_at: datetime) -> QuerySet[Intent]:
    """Intents without a receipt, though the guest's receipts were read well after them."""
    noted = Receipt.objects.filter(runtime=runtime, token=OuterRef("token"))
    known = Mismatch.objects.filter(runtime=runtime, kind=Kind.NO_RECEIPT, token=OuterRef("token"))
    return Intent.objects.filter(
        ~Exists(noted),
        ~Exists(known),
        ticket__runtime=runtime,
        route__in=RECEIPTED,
        at__range=(fetched_at - LOOKED_BACK, fetched_at - SETTLE),
    ).order_by("pk")


def note_missing() -> None:
    """Raise the alarm for each intent that should have its receipt by now, in a transaction of its own."""
    for head in ReceiptHead.objects.exclude(at=None).select_related("runtime"):
        if head.at is None or head.trouble:
            continue
        for intent in missing(head.runtime, head.at)[:MOST]:
            with transaction.atomic():
                mismatch(head.runtime, Kind.NO_RECEIPT, token=intent.token, ticket=intent.ticket_id)


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


def _unmeant(runtime: Runtime, fresh: Sequence[Receipt]) -> Iterable[Receipt]:
    used = [each for each in fresh if each.event in USES and not _is_grants(each)]
    meant = dict(
        Intent.objects.filter(token__in={each.token for each in used}, ticket__runtime=runtime).values_list(
            "token", "ticket_id"
        )
    )
    yield from (each for each in used if meant.get(each.token) != each.ticket_id)
    granted = [each for each in fresh if each.event == "granted"]
    begun = Ticket.objects.filter(runtime=runtime, started_at__isnull=False)
    known = set(begun.filter(pk__in={each.ticket_id for each in granted}).values_list("pk", flat=True))
    yield from (each for each in granted if each.ticket_id not in known)


def _is_grants(receipt: Receipt) -> bool:
    """Whether it tells of a grant that was refused: that came on the control plane's own token."""
    detail = json.loads(receipt.text)["detail"]
    return receipt.event == "refused" and detail.get("of") == "grant"
