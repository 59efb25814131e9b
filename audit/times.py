"""From a moment to an entry's id, without an index on time: ids and times grow together, all but a little."""

from datetime import UTC, datetime, timedelta

from audit.models import Entry

_Point = tuple[int, datetime]

DISORDER = timedelta(minutes=10)
"""How far an entry's time may stand from its neighbours': writers that waited, a clock that was set."""


def first_id(moment: datetime) -> int:
    """An id such that no entry of ``moment`` or later lies below it, found in a few steps."""
    return _bisect(shifted(moment, -DISORDER))


def end_id(moment: datetime) -> int:
    """An id such that no entry before ``moment`` lies at or above it."""
    return _bisect(shifted(moment, DISORDER))


def shifted(moment: datetime, by: timedelta) -> datetime:
    """``moment + by``, or the first or last moment that there is: people ask for all until the year 9999."""
    try:
        return moment + by
    except OverflowError:
        return (datetime.min if by < timedelta() else datetime.max).replace(tzinfo=UTC)


def _bisect(moment: datetime) -> int:
    """The lowest id whose entry is not before ``moment``, if all stood in order; above all if none is.

    Entries come about evenly, so the next place to look is guessed from the times at both ends. Each third
    step halves, so that a log with long silences takes no more than three times the steps of halving alone.
    """
    rows = Entry.objects.order_by("pk").values_list("pk", "at")
    oldest, newest = rows.first(), rows.reverse().first()
    if oldest is None or newest is None or moment <= oldest[1]:
        return 0
    if newest[1] < moment:
        return int(newest[0]) + 1
    low, high = oldest, newest  # low is before the moment; high is not
    step = 0
    while high[0] - low[0] > 1:
        step += 1
        found = rows.filter(pk__gte=_guess(low, high, moment, halve=step % 3 == 0), pk__lt=high[0]).first()
        if found is None:  # nothing from the guess to the upper end
            found = rows.filter(pk__gt=low[0], pk__lt=high[0]).reverse().first()
            if found is None:
                break
        low, high = (low, found) if found[1] >= moment else (found, high)
    return int(high[0])


def _guess(low: _Point, high: _Point, moment: datetime, *, halve: bool) -> int:
    """An id above the lower end and below the upper."""
    span, total = high[0] - low[0], high[1] - low[1]
    share = 0.5 if halve or not total else (moment - low[1]) / total
    return min(high[0] - 1, max(low[0] + 1, low[0] + int(span * share)))
