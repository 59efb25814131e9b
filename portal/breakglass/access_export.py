"""A ticket's receipts as a file that proves itself: ``python -m protocol.verify access`` reads it.

From the ticket's first receipt to the end of the machine's chain, for the machine signs only its newest. What
other tickets of this tenant left in between comes along, with their own documents and signatures.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from audit import proofs
from audit.context import Actor
from audit.models import Entry
from audit.services import record
from breakglass.models import Receipt, ReceiptHead, Ticket
from breakglass.standing import portal_site
from portal.rates import DOWNLOADS, RateExceeded, spend
from portal.record.exporting import PER_MINUTE, TooMany
from portal.record.heads import Head
from portal.record.proving import NotProved, newest
from portal.streams import Busy, Stream, place_for
from protocol.access_receipts import START
from protocol.receipts import Proof
from protocol.receipts import Receipt as Proved
from protocol.tiles import ReadTile, inclusion_from_tiles
from protocol.verify.access import FORMAT, HEADS, KEYS
from tenants.models import KeyringVersion, Tenant
from tenants.selectors import Person

MAX_RECEIPTS = 100_000
"""In one file. An operator's request leaves two."""
MAX_ENTRIES = 200
"""Heads of the chain that come along, the newest; one is enough for all that is before it."""
_CHUNK = 500
_TILES = 64


def begin(*, reader: Person, tenant: Tenant, ticket: Ticket) -> Iterator[str]:
    """The file's lines. That it was asked for is on record before the first byte.

    Raises:
        NotProved: the machine has told nothing of this ticket yet, or the log has no checkpoint.
        TooMany: too many downloads.
    """
    rows = Receipt.objects.filter(runtime=ticket.runtime_id)
    first = rows.filter(ticket_id=ticket.pk).order_by("seq").first()
    head = ReceiptHead.objects.filter(runtime=ticket.runtime_id).first()
    if first is None or head is None or head.seq < first.seq:
        raise NotProved(
            "no_receipts_yet", "The machine has told nothing of this ticket yet. Try again later."
        )
    chosen = rows.filter(seq__gte=first.seq, seq__lte=head.seq).order_by("seq")
    if head.seq - first.seq >= MAX_RECEIPTS:
        raise NotProved("too_many_receipts", "There are too many receipts for one file. Ask your operator.")
    try:
        with place_for(f"tenant:{tenant.pk}") as place:
            spend(DOWNLOADS, tenant.pk, PER_MINUTE)
            entries = _entries(tenant, ticket, first.seq)
            log = newest(tenant, holding=1 + max((one.leaf.index for one in entries), default=-1))
            _note(reader, tenant, ticket, first.seq, head.seq)
    except Busy as busy:
        raise TooMany(str(busy), busy.wait) from None
    except RateExceeded as refused:
        words = f"{PER_MINUTE} downloads a minute are the most. Try again in {refused.wait} s."
        raise TooMany(words, refused.wait) from None
    return Stream(place, _lines(tenant, ticket, chosen, head, entries, log))


@transaction.atomic
def _note(reader: Person, tenant: Tenant, ticket: Ticket, first: int, last: int) -> None:
    record(
        action="break_glass.exported",
        actor=Actor.of(reader),
        tenant_id=tenant.pk,
        target=("ticket", ticket.pk),
        data={"from": first, "to": last},
    )


def _entries(tenant: Tenant, ticket: Ticket, first: int) -> list[Entry]:
    """The log's own: those that name the machine's key, and the newest that hold heads of its chain."""
    told = Entry.objects.filter(tenant_id=tenant.pk, leaf__isnull=False).exclude(event="")
    told = told.select_related("leaf")
    keys = told.filter(action=KEYS).order_by("pk")
    heads = told.filter(action=HEADS, target_type="runtime", target_id=str(ticket.runtime_id))
    newest_heads = sorted(heads.order_by("-pk")[:MAX_ENTRIES], key=lambda one: one.pk)
    return [*_of_machine(keys, ticket), *(one for one in newest_heads if _data(one)["to"] >= first)]


def _of_machine(keys: QuerySet[Entry], ticket: Ticket) -> list[Entry]:
    """A tenant may have had other machines: their keys prove nothing here."""
    return [one for one in keys if str(_data(one).get("name", "")).startswith(f"{ticket.runtime_id}.")]


def _data(entry: Entry) -> dict[str, Any]:
    return dict(json.loads(entry.event)["data"])


def _lines(
    tenant: Tenant,
    ticket: Ticket,
    chosen: QuerySet[Receipt],
    head: ReceiptHead,
    entries: list[Entry],
    log: Head,
) -> Iterator[str]:
    site, first = portal_site(), chosen[0]
    before = {"seq": first.seq - 1, "hash": first.previous if first.seq > 1 else START[1]}
    yield _line(
        format=FORMAT,
        tenant=str(tenant.pk),
        runtime=str(ticket.runtime_id),
        rp_id=site.rp_id,
        origins=sorted(site.origins),
        after=before,
    )
    for keyring in KeyringVersion.objects.filter(tenant=tenant).order_by("version"):
        yield _line(keyring=keyring.document)
    yield from _grants(tenant, ticket, chosen)
    for row in chosen.iterator(_CHUNK):
        yield f'{{"receipt":{row.text}}}\n'
    yield _line(head=head.note)
    read_tile: ReadTile = lru_cache(maxsize=_TILES)(proofs.read_tile)
    for entry in entries:
        hashes = tuple(inclusion_from_tiles(entry.leaf.index, log.size, read_tile))
        yield _line(entry=Proved(entry.event, Proof(entry.leaf.index, hashes, log.note)).to_json())


def _grants(tenant: Tenant, ticket: Ticket, chosen: QuerySet[Receipt]) -> Iterator[str]:
    """Each set once, then the tickets that the machine was given."""
    named = chosen.order_by().values("ticket_id").distinct()
    tickets = Ticket.objects.filter(
        pk__in=named, tenant=tenant, runtime=ticket.runtime_id, started_at__isnull=False
    )
    found = tickets.select_related("approvers_set").prefetch_related(
        "revisions", "approvals", "owner_approvals"
    )
    sets = {one.approvers_set.version: one.approvers_set.document for one in found}
    for version in sorted(sets):
        yield _line(set=sets[version])
    for one in found:
        yield _line(grant=_grant(one))


def _grant(ticket: Ticket) -> dict[str, Any]:
    """As the machine was given it: the revision that holds, and who signed that."""
    (asked,) = (one for one in ticket.revisions.all() if one.revision == ticket.revision)
    owners = [one.signature for one in ticket.owner_approvals.all() if one.revision == ticket.revision]
    return {
        "document": asked.document,
        "request": asked.signature,
        "approvals": [one.signature for one in ticket.approvals.all() if one.revision == ticket.revision],
        "owner": owners[0] if owners else None,
    }


def _line(**members: Any) -> str:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")) + "\n"
