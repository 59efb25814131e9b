"""Staff's search: any mix of filters, a page at a time, as fast in ten million entries as in ten thousand.

A page is named by the id beside it (older than, newer than), so a link to it stays true while entries arrive.
Nothing counts and nothing skips: a page reads the newest entries themselves, then asks the index for rare
words, and for frequent ones walks back a bounded way. If that ends before the page is full, the page says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from audit import index
from audit.index import Question, Range
from audit.models import Entry, Leaf, SearchIndex
from audit.times import end_id, first_id
from audit.words import asked, matches, sign

PAGE = 50
NEAR = 2_000
"""Entries next to the cursor that are read themselves: perhaps not indexed yet; often a page."""
NEAR_MOST = 20_000
"""So many are read while the index lags."""
WALK = 10_000
WALK_MOST = 20_000
"""Entries that one page looks through for words that are frequent, but not here."""
BATCH = 2_000
MAX_ID = (1 << 63) - 1


@dataclass(frozen=True)
class Filters:
    """What is looked for; what is empty does not narrow. ``scope`` None: all, with what is no tenant's."""

    scope: tuple[UUID, ...] | None = None
    tenant: UUID | None = None
    actors: tuple[tuple[str, str], ...] | None = None
    """Kind and id, any of these; an empty tuple finds nothing; an id ``*`` is any of the kind."""
    action: str = ""
    """``thing.verb``, or ``thing`` for all that was done to such things."""
    target_type: str = ""
    target_id: str = ""
    request_id: str = ""
    commitments: tuple[str, ...] | None = None
    """Of a personal datum, any of these, in hex."""
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""

    def columns(self) -> Q:
        """The filters that an entry's columns answer; all but ``commitments`` and ``text``."""
        found = Q()
        for name in ("target_type", "target_id", "request_id"):
            if value := getattr(self, name):
                found &= Q(**{name: value})
        if self.scope is not None:
            found &= Q(tenant_id__in=self.scope)
        if self.tenant:
            found &= Q(tenant_id=self.tenant)
        if self.action:
            found &= Q(action=self.action) if "." in self.action else Q(action__startswith=f"{self.action}.")
        if self.actors is not None:
            found &= _any_actor(self.actors)
        return found & self._times()

    def question(self) -> Question:
        """The same filters as words of the index."""
        signs = [
            *([sign("t", self.tenant)] if self.tenant else []),
            *([sign("a" if "." in self.action else "g", self.action)] if self.action else []),
            *([sign("o", self.target_type)] if self.target_type else []),
            *([sign("i", self.target_id)] if self.target_id else []),
            *([sign("r", self.request_id)] if self.request_id else []),
        ]
        groups = [
            None if self.scope is None else tuple(sign("t", tenant) for tenant in self.scope),
            None if self.actors is None else tuple(_actor_sign(*actor) for actor in self.actors),
            None if self.commitments is None else tuple(sign("p", each) for each in self.commitments),
        ]
        given = tuple(group for group in groups if group is not None)
        return Question(tuple(asked(self.text)), tuple(signs), given, self.since, self.until)

    @property
    def beyond_columns(self) -> bool:
        """Whether the event itself must be looked into."""
        return bool(self.commitments or asked(self.text))

    def _times(self) -> Q:
        found = Q(at__gte=self.since) if self.since else Q()
        return found & Q(at__lt=self.until) if self.until else found


@dataclass(frozen=True)
class Cursor:
    """Where a page lies: older than an entry, or newer than one. At most one is set; neither: the newest."""

    before: int | None = None
    after: int | None = None

    @classmethod
    def of(cls, before: str, after: str) -> Self:
        """From a link's words. Raises ValueError: what to give."""
        if before and after:
            raise ValueError("Give before or after, not both.")
        for word in (before, after):
            if word and not (word.isascii() and word.isdigit() and int(word[:20]) <= MAX_ID):
                raise ValueError("before and after name an entry by its number.")
        return cls(int(before) if before else None, int(after) if after else None)


@dataclass(frozen=True)
class Found:
    """One page, the newest first, and where to go on; None: nowhere."""

    entries: list[Entry]
    older: int | None
    newer: int | None
    stopped_at: int | None = None
    """The search went so far without filling the page; ``older`` or ``newer`` goes on from there."""


def search(filters: Filters, cursor: Cursor = Cursor(), count: int = PAGE) -> Found:
    """One page."""
    where = _where(filters, cursor)
    ids, stopped = _ids(filters, where, count + 1)
    rows = Entry.objects.filter(filters.columns(), pk__in=ids[:count]).order_by("-pk")
    return _found(list(rows), ids, stopped, cursor, count)


def catch_up(limit: int = BATCH) -> int:
    """Index the next leaves of the tree, in a transaction of its own. Returns how many; 0: all are indexed.

    The sequencer calls this after its own work, again and again until 0.
    """
    with transaction.atomic():
        SearchIndex.objects.get_or_create(pk=SearchIndex.ROW)
        progress = SearchIndex.objects.select_for_update().get(pk=SearchIndex.ROW)
        leaves = Leaf.objects.filter(index__gte=progress.leaves).order_by("index").select_related("entry")
        entries = [leaf.entry for leaf in leaves[:limit]]
        if entries:
            index.add(entries)
            SearchIndex.objects.filter(pk=SearchIndex.ROW).update(leaves=progress.leaves + len(entries))
    return len(entries)


def _any_actor(actors: tuple[tuple[str, str], ...]) -> Q:
    found = Q(pk__in=[])
    for kind, actor in actors:
        found |= Q(actor_kind=kind) if actor == "*" else Q(actor_kind=kind, actor_id=actor)
    return found


def _actor_sign(kind: str, actor: str) -> str:
    return sign("k", kind) if actor == "*" else sign("u", f"{kind}:{actor}")


def _where(filters: Filters, cursor: Cursor) -> Range:
    first = first_id(filters.since) if filters.since else 0
    end = end_id(filters.until) if filters.until else MAX_ID
    if cursor.after is not None:
        return Range(max(first, cursor.after + 1), end, newest_first=False)
    return Range(first, end if cursor.before is None else min(end, cursor.before))


def _ids(filters: Filters, where: Range, count: int) -> tuple[list[int], int | None]:
    """The first ``count`` ids in order, and where the search gave up, if it did."""
    question = filters.question()
    if () in question.groups or where.first >= where.end:
        return [], None
    if question.is_empty:
        return _plain(filters, where, count), None
    near, far = _split(where)
    ids = _near(filters, question, near, count)
    if len(ids) >= count or far.first >= far.end:
        return ids[:count], None
    more = index.engine().find(question, far, count - len(ids))
    stopped = None
    if more is None:
        more, stopped = _walk(question, far, count - len(ids))
    ids += more
    if not where.newest_first and stopped is None:
        tail = replace(far, first=max(far.first, index.top() + 1, far.end - NEAR_MOST))
        ids += _near(filters, question, tail, count)
    return ids[:count], stopped


def _split(where: Range) -> tuple[Range, Range]:
    """What is read itself, and what the index is asked for."""
    newest = _edge(where, newest_first=True)
    if where.newest_first:
        lowest = max(min(newest - NEAR, index.top() - NEAR), newest - NEAR_MOST, where.first)
        return replace(where, first=lowest, end=newest + 1), replace(where, end=lowest)
    oldest = _edge(where, newest_first=False)
    highest = min(oldest + NEAR, newest + 1)
    return replace(where, first=oldest, end=highest), replace(where, first=highest, end=newest + 1)


def _edge(where: Range, *, newest_first: bool) -> int:
    rows = Entry.objects.filter(pk__gte=where.first, pk__lt=where.end)
    found = rows.order_by("-pk" if newest_first else "pk").values_list("pk", flat=True).first()
    return where.first if found is None else found


def _plain(filters: Filters, where: Range, count: int) -> list[int]:
    return list(_within(filters, where).values_list("pk", flat=True)[:count])


def _within(filters: Filters, where: Range) -> QuerySet[Entry]:
    rows = Entry.objects.filter(filters.columns(), pk__gte=where.first, pk__lt=where.end)
    return rows.order_by("-pk" if where.newest_first else "pk")


def _near(filters: Filters, question: Question, where: Range, count: int) -> list[int]:
    if not filters.beyond_columns:
        return _plain(filters, where, count)
    ids = index.engine().walk(question, where, count)
    rest = set(_within(filters, where).values_list("pk", flat=True)) - index.indexed(where)
    commitments = {sign("p", each) for each in filters.commitments or ()}
    fresh = Entry.objects.filter(pk__in=sorted(rest)[-NEAR_MOST:])
    ids += [entry.pk for entry in fresh if _has(entry, [*question.words], commitments)]
    return sorted(ids, reverse=where.newest_first)


def _has(entry: Entry, words: list[str], commitments: set[str]) -> bool:
    return matches(entry, words) and (not commitments or any(matches(entry, [one]) for one in commitments))


def _walk(question: Question, where: Range, count: int) -> tuple[list[int], int | None]:
    """Window after window until the page is full, the range ends, or the walk has been long enough."""
    ids: list[int] = []
    edge = where.first
    for window in _windows(where):
        ids += index.engine().walk(question, window, count - len(ids))
        if len(ids) >= count:
            return ids, None
        edge = window.first if where.newest_first else window.end - 1
    ended = edge == (where.first if where.newest_first else where.end - 1)
    return ids, None if ended else edge


def _windows(where: Range) -> Iterator[Range]:
    done = 0
    while done < min(WALK_MOST, where.end - where.first):
        begin, done = done, min(done + WALK, where.end - where.first)
        if where.newest_first:
            yield replace(where, first=where.end - done, end=where.end - begin)
        else:
            yield replace(where, first=where.first + begin, end=where.first + done)


def _found(rows: list[Entry], ids: list[int], stopped: int | None, cursor: Cursor, count: int) -> Found:
    upward = cursor.after is not None
    page, more = ids[:count], len(ids) > count
    last = page[-1] if page and more else stopped
    if upward:
        older = page[0] if page else (cursor.after or 0) + 1
        return Found(rows, older, last, stopped)
    newer = None if cursor.before is None else (page[0] if page else cursor.before - 1)
    return Found(rows, last, newer, stopped)
