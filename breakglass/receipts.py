"""Fetches what guests have noted of break-glass, checks that it is one chain, and keeps it byte for byte.

A guest is the tenant's: nothing is taken as it comes. What does not fit is a :class:`Mismatch`, loud until
somebody has looked into it, and nothing after the break is taken in. Each fetch that brings something leaves
an entry with the chain's head, so the head stands in the record's tree.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from breakglass import comparing
from breakglass.clock import database_time
from breakglass.models import Mismatch, Receipt, ReceiptHead, Ticket
from breakglass.pacing import PACE
from breakglass.services.endings import finish
from protocol.access_receipts import START, Position, ReceiptError, check_chain, head_key, open_head
from protocol.access_receipts import Receipt as Stated
from protocol.notes import NoteError, VerifierKey
from provisioning.models import Runtime
from provisioning.runtime_client import AgentUnreachable, RuntimeClient
from provisioning.selectors import settled
from provisioning.witnessing import follow, guest_of

log = logging.getLogger(__name__)
PACE_SECONDS = 4
"""Between two looks at a guest in which a ticket is active."""
QUIET_SECONDS = 300
"""Between two looks at one in which none is: nothing should come then, and what comes is an alarm."""
MAX_PAGES = 50
MAX_NOTE = 4096
MAX_DEPTH = 8
"""Of what stands in a receipt; an honest one's has four: the receipt, its detail, a command, its words."""
ENDED_THERE = {"done": (Ticket.State.ENDED, "done"), "expired": (Ticket.State.EXPIRED, "time")}
"""By the guest's code, what a ticket becomes that is active here; all others are somebody's refusal."""
_TOKEN = re.compile(r"[0-9a-f-]{0,64}")
_LATEST = 253_402_300_799
"""The end of the year 9999."""
Kind = Mismatch.Kind


class Broken(Exception):
    """The guest's chain does not fit. ``kind`` is the mismatch's, ``trouble`` a code for the head."""

    def __init__(self, kind: str, trouble: str, seq: int) -> None:
        super().__init__(f"{trouble} at {seq}")
        self.kind, self.trouble, self.seq = kind, trouble, seq


@dataclass(frozen=True)
class Page:
    """Some receipts that follow what was known, and the guest's word for how far its chain goes."""

    receipts: Sequence[Stated]
    position: Position
    """Of the last of them."""
    head: Position
    note: str

    @property
    def last(self) -> bool:
        """Whether the chain ends with it."""
        return self.position == self.head


def due() -> QuerySet[Runtime]:
    """Guests to be asked now: often while access is possible or just was, else now and then."""
    fetched = ReceiptHead.objects.filter(runtime=OuterRef("pk"))
    lately = timezone.now() - timedelta(seconds=PACE_SECONDS)
    tickets = Ticket.objects.filter(runtime=OuterRef("pk"), started_at__isnull=False)
    # An end is in the receipts once they were fetched after it was confirmed.
    unread = tickets.filter(end_confirmed_at__isnull=False).filter(
        Q(runtime__receipt_head=None) | Q(runtime__receipt_head__at__lte=F("end_confirmed_at"))
    )
    busy = Exists(tickets.filter(state=Ticket.State.ACTIVE)) | Exists(unread)
    quiet = timezone.now() - timedelta(seconds=QUIET_SECONDS)
    known = Exists(fetched) | Exists(tickets)
    return (
        settled()
        .exclude(agent_address="")
        .filter(
            (busy & ~Exists(fetched.filter(at__gt=lately))) | (known & ~Exists(fetched.filter(at__gt=quiet)))
        )
    )


def fetch(runtime_id: UUID) -> int:
    """Take in what a guest has noted since the last time. How many receipts that were.

    Raises:
        AgentUnreachable, AgentRefused: the sweep tries again.
    """
    runtime = Runtime.objects.filter(pk=runtime_id, phase=Runtime.Phase.READY).first()
    if runtime is None:
        return 0
    with PACE.alone("receipts", runtime_id) as mine:
        return _fetch(runtime, RuntimeClient.urgent(runtime)) if mine else 0


def _fetch(runtime: Runtime, client: RuntimeClient) -> int:
    head, _ = ReceiptHead.objects.get_or_create(runtime=runtime)
    after = _position(head)
    taken = 0
    for _ in range(MAX_PAGES):
        asked_at = database_time()
        answer = client.receipts(after[0])
        try:
            page = _page(answer, after, runtime, _key(runtime, client))
        except Broken as broken:
            _note_broken(runtime, broken, asked_at)
            return taken
        if not _take(runtime, after, page, asked_at):
            return taken  # another worker has been quicker
        taken += len(page.receipts)
        after = page.position
        if page.last:
            break
    return taken


def _position(head: ReceiptHead) -> Position:
    return (head.seq, head.hash) if head.seq else START


def _key(runtime: Runtime, client: RuntimeClient) -> VerifierKey:
    """The key that the guest signs heads with: its witness's, as it was first registered.

    Raises:
        AgentUnreachable: it states none that could be its own.
    """
    witness = guest_of(runtime) or follow(runtime, client.status())
    if witness is None:
        raise AgentUnreachable("The guest states no key for its receipts.")
    try:
        return head_key(str(runtime.pk), witness.vkey)
    except NoteError:
        raise AgentUnreachable("The guest's key is not one for receipts.") from None


def _page(answer: Mapping[str, Any], after: Position, runtime: Runtime, key: VerifierKey) -> Page:
    """Read and check one answer. Raises Broken."""
    found, note = answer.get("receipts"), answer.get("head")
    if not isinstance(found, list) or not isinstance(note, str) or len(note) > MAX_NOTE:
        raise Broken(Kind.CHAIN, "malformed", after[0])
    try:
        stated = open_head(note, key)
    except ReceiptError:
        raise Broken(Kind.CHAIN, "bad_head", after[0]) from None
    if stated[0] < after[0] or (stated[0] == after[0] and stated != after):
        raise Broken(Kind.FORKED, "rolled_back", stated[0])
    try:
        receipts = [_checked(each) for each in found]
        if receipts and receipts[0].seq == after[0] + 1 and receipts[0].previous != after[1]:
            raise Broken(Kind.FORKED, "forked", after[0])
        position = check_chain(receipts, after, runtime_id=str(runtime.pk))
    except ReceiptError:
        raise Broken(Kind.CHAIN, "broken", after[0]) from None
    if position[0] > stated[0] or (position[0] == stated[0] and position != stated):
        raise Broken(Kind.CHAIN, "bad_head", after[0])
    if not receipts and position != stated:
        raise Broken(Kind.CHAIN, "withheld", after[0])
    # Rows that nobody can delete: what a guest may fill is in proportion to what was done in it.
    if receipts and position[0] > comparing.longest(runtime):
        raise Broken(Kind.CHAIN, "too_many", after[0])
    return Page(receipts, position, stated, note)


def _checked(document: Any) -> Stated:
    """A receipt whose parts fit into a row. Raises ReceiptError."""
    if not _is_flat(document):
        raise ReceiptError("a receipt is nested too deeply")
    receipt = Stated.parse(document)
    try:
        UUID(receipt.ticket)
    except ValueError:
        raise ReceiptError("a receipt names no ticket") from None
    if not _TOKEN.fullmatch(receipt.token) or receipt.at > _LATEST or receipt.seq >= 2**53:
        raise ReceiptError("a receipt's token, time or number is none")
    return receipt


def _is_flat(document: Any) -> bool:
    """Whether it has no more levels than receipts have: what nests deeper ends each page that reads it."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return not level


@transaction.atomic
def _take(runtime: Runtime, after: Position, page: Page, asked_at: datetime) -> bool:
    """Keep a page, with its entry and what does not go together with it. False: it is kept already."""
    head = ReceiptHead.objects.select_for_update().get(runtime=runtime)
    if _position(head) != after:
        return False
    rows = [_row(runtime, each) for each in page.receipts]
    Receipt.objects.bulk_create(rows)
    moved = {"seq": page.position[0], "hash": page.position[1]} if rows else {}
    # Only a head whose receipts are all here is one to show.
    told = {"note": page.note, "at": asked_at} if page.last else {}
    ReceiptHead.objects.filter(pk=head.pk).update(**moved, **told, trouble="")
    if rows:
        unmeant = comparing.unmeant(runtime, rows)
        about = {"from": after[0] + 1, "to": page.position[0], "head": page.position[1]}
        record(
            action="break_glass.receipts",
            actor=SYSTEM,
            tenant_id=runtime.tenant_id,
            target=("runtime", runtime.pk),
            data={**about, "unmeant": len(unmeant)} if unmeant else about,
        )
        comparing.alarm(runtime, unmeant)
        _follow_ends(runtime, page.receipts)
    return True


def _follow_ends(runtime: Runtime, receipts: Sequence[Stated]) -> None:
    """What ended in the guest first (its operator is done, its owner's button) is over here, too.

    Of this guest's tickets only: what it says of others' is an alarm (:func:`comparing.compare`).
    """
    codes = {UUID(each.ticket): each.detail.get("code") for each in receipts if each.event == "ended"}
    over = Ticket.objects.filter(pk__in=codes, runtime=runtime, state=Ticket.State.ACTIVE)
    for ticket in over.select_related("tenant"):
        after, ending = ENDED_THERE.get(str(codes[ticket.pk]), (Ticket.State.REVOKED, "in_guest"))
        finish(SYSTEM, ticket, after, ending)


def _row(runtime: Runtime, receipt: Stated) -> Receipt:
    seq, digest = receipt.position
    return Receipt(
        runtime=runtime,
        seq=seq,
        hash=digest,
        previous=receipt.previous,
        text=receipt.text,
        ticket_id=UUID(receipt.ticket),
        token=receipt.token,
        event=receipt.event,
        at=datetime.fromtimestamp(receipt.at, UTC),
    )


@transaction.atomic
def _note_broken(runtime: Runtime, broken: Broken, asked_at: datetime) -> None:
    ReceiptHead.objects.filter(runtime=runtime).update(trouble=broken.trouble, at=asked_at)
    log.critical("runtime %s: its receipts do not fit: %s.", runtime.pk, broken)
    comparing.mismatch(runtime, broken.kind, seq=broken.seq, code=broken.trouble)
