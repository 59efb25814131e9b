"""What a machine would have told of a ticket, as the portal keeps it."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from django.db import transaction

from audit.context import SYSTEM
from audit.services import record
from breakglass.models import Receipt, ReceiptHead, Ticket
from protocol.access_receipts import START, following, head_note
from tests.portal.conftest import Place

READ = {"scope": "workspace:read", "method": "GET", "route": "/v1/break-glass/files", "path": "reports/a.txt"}
COURSE: list[tuple[str, str, dict[str, Any]]] = [
    ("granted", "", {"until": 0}),
    ("session", "t0", {}),
    ("access", "t1", READ),
    ("outcome", "t1", {"status": 200, "bytes": 2048, "sha256": "ab" * 32}),
]


def seed_of(place: Place) -> bytes:
    """Of the machine's witness key, as tests/portal/conftest.py registers it."""
    return sha256(place.tenant.slug.encode()).digest()


def signers(ticket: Ticket) -> dict[str, Any]:
    """What the machine notes of who has signed."""
    owners = [one.signature["by"] for one in ticket.owner_approvals.all() if one.revision == ticket.revision]
    people = {one.person for one in ticket.approvals.all() if one.revision == ticket.revision}
    return {"people": sorted(people), "owner": owners[0] if owners else ""}


def tell(place: Place, ticket: Ticket, course: list[tuple[str, str, dict[str, Any]]] | None = None) -> None:
    """Append receipts, set the head, and leave the entry that the fetch leaves."""
    runtime = str(place.runtime.pk)
    last = Receipt.objects.filter(runtime=place.runtime).order_by("-seq").first()
    position = (last.seq, last.hash) if last else START
    began = position[0] + 1
    digest = next(one.digest for one in ticket.revisions.all() if one.revision == ticket.revision)
    now = int((ticket.started_at or ticket.asked_at).timestamp()) + 1
    for event, token, detail in COURSE if course is None else course:
        if event == "granted":
            detail = signers(ticket) | detail
        made = following(
            position,
            runtime_id=runtime,
            at=now,
            ticket=str(ticket.pk),
            digest=digest,
            event=event,
            token=token,
            detail=detail,
        )
        position = made.position
        Receipt.objects.create(
            runtime=place.runtime,
            seq=made.seq,
            hash=made.hash,
            previous=made.previous,
            text=made.text,
            ticket_id=ticket.pk,
            token=token,
            event=event,
            at=datetime.fromtimestamp(now, UTC),
        )
    note = head_note(runtime, position, seed_of(place))
    ReceiptHead.objects.update_or_create(
        runtime=place.runtime, defaults={"seq": position[0], "hash": position[1], "note": note}
    )
    with transaction.atomic():
        record(
            action="break_glass.receipts",
            actor=SYSTEM,
            tenant_id=place.tenant.pk,
            target=("runtime", place.runtime.pk),
            data={"from": began, "to": position[0], "head": position[1]},
        )
