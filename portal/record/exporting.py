"""Many receipts at once, one JSON document a line, made while they are sent."""

from collections.abc import Iterator
from functools import lru_cache

from django.db import transaction
from django.db.models import QuerySet

from audit import proofs
from audit.context import Actor
from audit.models import Entry
from audit.services import record
from portal.rates import DOWNLOADS, RateExceeded, spend
from portal.record import openings
from portal.record.asked import Asked
from portal.record.heads import Head
from portal.record.proving import NotProved, newest
from portal.record.reading import MAX_RECEIPTS, entries_of
from portal.streams import Busy, Stream, place_for
from protocol.receipts import Proof, Receipt
from protocol.tiles import ReadTile, inclusion_from_tiles
from tenants.models import Tenant
from tenants.selectors import Person

PER_MINUTE = 10
"""Downloads of a tenant's people together: each keeps a web process's thread busy for seconds."""
_CHUNK = 500
_TILES = 1024
"""Tiles that one download holds, 8 KiB each."""


class TooMany(NotProved):
    """Downloads: in this minute, or at this moment."""

    def __init__(self, words: str, wait: int) -> None:
        super().__init__("too_many_downloads", words)
        self.wait = wait


def begin(
    *, reader: Person, tenant: Tenant, asked: Asked, after: int = 0
) -> tuple[Iterator[str], int | None]:
    """The lines of a download, and after which entry's id the next one begins; None if this is all.

    That it happened is on record before its first byte. All receipts are of one checkpoint. What it does not
    hold yet, and what stands in an archive, is left out.

    Raises:
        NotProved: there is no checkpoint yet. TooMany: too many downloads.
    """
    newest(tenant)
    try:
        with place_for(f"tenant:{tenant.pk}") as place:
            spend(DOWNLOADS, tenant.pk, PER_MINUTE)
            found = list(_wanted(tenant, asked, after).values_list("pk", "leaf__index")[: MAX_RECEIPTS + 1])
            chosen = found[:MAX_RECEIPTS]
            # A head that witnesses have signed, if it holds every one of these; a newer one if not.
            head = newest(tenant, holding=1 + max((index for _, index in chosen), default=-1))
            _note(reader, tenant, asked, after, len(chosen))
    except Busy as busy:
        raise TooMany(str(busy), busy.wait) from None
    except RateExceeded as refused:
        words = f"{PER_MINUTE} downloads a minute are the most. Try again in {refused.wait} s."
        raise TooMany(words, refused.wait) from None
    following = chosen[-1][0] if len(found) > MAX_RECEIPTS else None
    return Stream(place, _lines(reader, tenant, head, [pk for pk, _ in chosen])), following


def _wanted(tenant: Tenant, asked: Asked, after: int) -> QuerySet[Entry]:
    """Those in the tree: with their leaves the sequencer stores the checkpoint that holds them."""
    found = asked.narrowed(entries_of(tenant.pk)).filter(pk__gt=after, leaf__isnull=False)
    return found.exclude(event="").order_by("pk")


@transaction.atomic
def _note(reader: Person, tenant: Tenant, asked: Asked, after: int, entries: int) -> None:
    record(
        action="record.exported",
        actor=Actor.of(reader),
        tenant_id=tenant.pk,
        target=("tenant", tenant.pk),
        data={"entries": entries, "after": after, "asked": asked.query()},
    )


def _lines(reader: Person, tenant: Tenant, head: Head, ids: list[int]) -> Iterator[str]:
    read_tile: ReadTile = lru_cache(maxsize=_TILES)(proofs.read_tile)
    for first in range(0, len(ids), _CHUNK):
        rows = list(entries_of(tenant.pk).filter(pk__in=ids[first : first + _CHUNK]).order_by("pk"))
        for row, mine in zip(rows, openings.readable(reader, tenant, rows), strict=True):
            hashes = tuple(inclusion_from_tiles(row.leaf.index, head.size, read_tile))
            yield Receipt(row.event, Proof(row.leaf.index, hashes, head.note), mine).to_json() + "\n"
