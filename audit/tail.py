"""What comes in, in the order of the tree: nothing is skipped, though writers commit out of order."""

from collections.abc import Collection
from dataclasses import dataclass

from audit.models import Entry, Leaf
from audit.search import Filters
from audit.words import asked, matches

WINDOW = 2_000
"""Leaves that one question looks through."""
MOST = 100
"""Entries that one answer shows."""


@dataclass(frozen=True)
class Tail:
    """The newest first; where to ask from next; and how many more there were than an answer shows."""

    entries: list[Entry]
    next: int
    left_out: int


def tail(filters: Filters, start: int, *, but: Collection[int] = ()) -> Tail:
    """Entries that match among the leaves from index ``start`` on, without the ids in ``but``."""
    newest = Leaf.objects.order_by("-index").values_list("index", flat=True).first()
    end = min(start + WINDOW, 0 if newest is None else newest + 1)
    if end <= start:
        return Tail([], start, 0)
    rows = Entry.objects.filter(filters.columns(), leaf__index__gte=start, leaf__index__lt=end)
    words = asked(filters.text)
    found = [
        entry
        for entry in rows.exclude(pk__in=but).order_by("-leaf__index")
        if not words or matches(entry, words)
    ]
    return Tail(found[:MOST], end, max(0, len(found) - MOST))
