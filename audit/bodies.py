"""The events themselves, in the order of the tree."""

from collections.abc import Iterator

from audit.models import Leaf
from protocol.tiles import TILE_WIDTH, TileError, bundle

CHUNK = 4 * TILE_WIDTH
"""Events read at once: 60 MB at the very most, usually half a megabyte."""


class ArchivedError(TileError):
    """The bodies of these entries stand in an archive, and no longer in the database."""


def events(first: int, end: int) -> Iterator[str]:
    """The stored texts of the leaves ``first <= index < end``.

    Raises:
        ArchivedError: one has been archived.
        TileError: the tree has no such leaf.
    """
    for begin in range(first, end, CHUNK):
        rows = Leaf.objects.filter(index__gte=begin, index__lt=min(begin + CHUNK, end)).order_by("index")
        expected = begin
        for index, event in rows.values_list("index", "entry__event"):
            if index != expected or event is None:
                raise TileError(f"entry {expected} is missing")
            if not event:
                raise ArchivedError(f"entry {index} has been archived")
            yield event
            expected += 1
        if expected != min(begin + CHUNK, end):
            raise TileError(f"the tree has no entry {expected}")


def entry_bundle(index: int, width: int = TILE_WIDTH) -> bytes:
    """The C2SP bundle ``tile/entries/<index>``, or its first ``width`` entries. Raises as :func:`events`."""
    first = index * TILE_WIDTH
    return bundle([event.encode() for event in events(first, first + width)])
