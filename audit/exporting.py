"""Exports as JSON Lines, made while they are sent: the whole log, or the entries of a search as receipts."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice

from audit import proofs
from audit.bodies import events
from audit.models import Checkpoint, Leaf, Segment
from audit.proofs import note_of
from audit.search import Cursor, Filters, search
from protocol.checkpoints import Checkpoint as Head
from protocol.merkle import Frontier
from protocol.receipts import Proof, Receipt
from protocol.tiles import ReadTile, frontier_from_tiles, inclusion_from_tiles
from protocol.verify.exports import checkpoint_line, entry_line, header_line

MAX_RECEIPTS = 100_000
MAX_ENTRIES = 10_000_000
_PAGE = 500
_TILES = 2_048
"""Tiles that one export holds, 8 KiB each."""


def whole(checkpoint: Checkpoint, origin: str) -> Iterator[str]:
    """Every entry of the checkpoint's tree whose body is here; archives hold those before.

    Raises:
        TileError: a body is missing.
    """
    first = min(Segment.archived(), checkpoint.size)
    frontier = Frontier(first, frontier_from_tiles(first, proofs.read_tile)) if first else None
    yield header_line(Head(origin, checkpoint.size, bytes(checkpoint.root)), frontier)
    for index, event in enumerate(events(first, checkpoint.size), first):
        yield entry_line(index, event)
    yield checkpoint_line(note_of(checkpoint))


def receipts(filters: Filters, checkpoint: Checkpoint) -> Iterator[str]:
    """One receipt a line, the newest first, of what the search finds in the checkpoint's tree.

    All proofs lead to the one checkpoint. What has no leaf in it is left out, as is what has been archived.
    """
    note = note_of(checkpoint)
    read_tile: ReadTile = lru_cache(maxsize=_TILES)(proofs.read_tile)
    for index, event in islice(_found(filters, checkpoint.size), MAX_RECEIPTS):
        hashes = tuple(inclusion_from_tiles(index, checkpoint.size, read_tile))
        yield Receipt(event, Proof(index, hashes, note)).to_json() + "\n"


def _found(filters: Filters, size: int) -> Iterator[tuple[int, str]]:
    cursor: Cursor | None = Cursor()
    while cursor is not None:
        page = search(filters, cursor, _PAGE)
        yield from _leaves([entry.pk for entry in page.entries], size)
        cursor = None if page.older is None else Cursor(before=page.older)


def _leaves(ids: Iterable[int], size: int) -> list[tuple[int, str]]:
    rows = Leaf.objects.filter(entry_id__in=list(ids), index__lt=size).exclude(entry__event="")
    return list(rows.order_by("-entry_id").values_list("index", "entry__event"))
