"""From a moment to an entry's id, without an index on time: ids and times grow together, all but a little."""

from datetime import datetime, timedelta

from audit.models import Entry

DISORDER = timedelta(minutes=10)
"""How far an entry's time may stand from its neighbours': writers that waited, a clock that was set."""


def first_id(moment: datetime) -> int:
    """An id such that no entry of ``moment`` or later lies below it, found in about 20 steps."""
    return _bisect(moment - DISORDER)


def end_id(moment: datetime) -> int:
    """An id such that no entry before ``moment`` lies at or above it."""
    return _bisect(moment + DISORDER)


def _bisect(moment: datetime) -> int:
    """The lowest id whose entry is not before ``moment``, if all stood in order; above all if none is."""
    rows = Entry.objects.order_by("pk").values_list("pk", "at")
    newest = rows.reverse().first()
    low, high = 0, newest[0] + 1 if newest else 1
    while low < high:
        middle = (low + high) // 2
        found = rows.filter(pk__gte=middle).first()
        if found is None or found[1] >= moment:
            high = middle
        else:
            low = found[0] + 1
    return low
