"""Which part of a tenant's record somebody asks for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.utils.dateparse import parse_date, parse_datetime

from audit.models import Entry
from audit.times import end_id, first_id, shifted
from portal.record.words import TOPICS, Topic, actions

CHANGES = "changes"
"""Everything but the requests, which would hide the rest."""
MAX_ID = (1 << 63) - 1


class WrongQuestion(ValueError):
    """What to give instead."""


@dataclass(frozen=True)
class Asked:
    """A topic, a time and a place to begin; all of it by default."""

    topic: str = ""
    """One of ``TOPICS``, ``changes``, or empty: all."""
    since: datetime | None = None
    until: datetime | None = None
    """Before this moment."""
    before: int = MAX_ID
    """Entries older than this one."""

    @classmethod
    def of(cls, *, topic: str = "", since: str = "", until: str = "", before: str = "") -> "Asked":
        """From a request's words. A day alone, as ``until``, is meant with all its hours.

        Raises:
            WrongQuestion: it cannot be understood.
        """
        if topic not in {"", CHANGES, *TOPICS}:
            raise WrongQuestion(f"topic: give one of {', '.join([CHANGES, *TOPICS])}, or leave it out.")
        return cls(
            topic,
            _moment("since", since),
            _moment("until", until, end=True),
            number(before, "before") or MAX_ID,
        )

    @property
    def last_day(self) -> datetime | None:
        """The last moment that is meant, whose day stands in the form."""
        return shifted(self.until, -timedelta(seconds=1)) if self.until else None

    @property
    def narrows(self) -> bool:
        """Whether something is left out."""
        return bool(self.topic or self.since or self.until)

    def narrowed(self, entries: QuerySet[Entry]) -> QuerySet[Entry]:
        """Those of ``entries`` that are meant, whatever ``before`` says."""
        if self.topic == CHANGES:
            entries = entries.exclude(action__in=actions({Topic.REQUESTS}))
        elif self.topic:
            entries = entries.filter(action__in=actions({self.topic}))
        # By id as well: there is no index on time.
        if self.since:
            entries = entries.filter(at__gte=self.since, pk__gte=first_id(self.since))
        if self.until:
            entries = entries.filter(at__lt=self.until, pk__lt=end_id(self.until))
        return entries

    def query(self, **more: object) -> str:
        """The same question as a query string, without ``before``."""
        told = {"topic": self.topic, "since": _told(self.since), "until": _told(self.until), **more}
        # The topic even if it is empty: on the page that is another question than none.
        return urlencode({name: value for name, value in told.items() if value or name == "topic"})


def number(text: str, name: str) -> int | None:
    """A positive number that fits an id; None for nothing.

    Raises:
        WrongQuestion: it is another thing.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= MAX_ID):
        raise WrongQuestion(f"{name}: give what an earlier answer said, or leave it out.")
    return int(text)


def _moment(name: str, text: str, *, end: bool = False) -> datetime | None:
    if not text:
        return None
    try:
        day = parse_date(text)
        moment = parse_datetime(text) if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)
        if moment is not None and day is not None and end:
            moment += timedelta(days=1)
        if moment is not None:
            # Where no year is left for it in UTC, no database can compare it either.
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        raise WrongQuestion(f"{name}: give a day like 2026-11-26 or a time like 2026-11-26T09:30Z.")
    return moment


def _told(moment: datetime | None) -> str:
    # Not strftime, which writes the year 1 with one digit.
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z" if moment else ""
