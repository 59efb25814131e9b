"""The search index: one row of words per entry, apart from the entries and out of the way of their writers.

PostgreSQL keeps a ``tsvector`` under a GIN index, SQLite an FTS5 table; both hold the words of
:mod:`audit.words` verbatim. The entries are the truth; of archived ones the words are here alone.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from django.db import connection, transaction

from audit.models import Entry
from audit.words import is_prefix, words_of

TABLE = "audit_words"
MANY = 2000
"""So many hits are fetched and sorted at most; of what is more frequent, a walk finds a page soon."""

CREATE = {
    "postgresql": [
        f"CREATE TABLE {TABLE} (entry_id bigint PRIMARY KEY, words tsvector NOT NULL)",
        # A short pending list: each search reads it from end to end.
        f"CREATE INDEX audit_words_found ON {TABLE} USING gin (words) WITH (gin_pending_list_limit = 256)",
    ],
    "sqlite": [
        f"CREATE VIRTUAL TABLE {TABLE} USING fts5(words, content='', detail=none, "
        "tokenize=\"unicode61 remove_diacritics 0 tokenchars '=.:-_/@+'\")"
    ],
}
DROP = f"DROP TABLE {TABLE}"

_ADD = {
    "postgresql": f"""
        INSERT INTO {TABLE} (entry_id, words)
        SELECT id, array_to_tsvector(string_to_array(words, ' '))
        FROM unnest(%s::bigint[], %s::text[]) AS given (id, words)
        ON CONFLICT (entry_id) DO NOTHING
    """,  # noqa: S608 - a constant's name
    "sqlite": f"INSERT INTO {TABLE} (rowid, words) VALUES (%s, %s)",  # noqa: S608
}
_KEYS = {
    "postgresql": (TABLE, "entry_id"),
    # FTS5 reads all of itself for a maximum; its own table of sizes has the same ids under a key.
    "sqlite": (f"{TABLE}_docsize", "id"),
}


@dataclass(frozen=True)
class Question:
    """All of ``words``, and of each group in ``groups`` one; of times in ``[since, until)``."""

    words: tuple[str, ...] = ()
    """What a person typed: finds longer words too."""
    signs: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every entry is an answer, times apart."""
        return not (self.words or self.signs or self.groups)


@dataclass(frozen=True)
class Range:
    """Entry ids ``first <= id < end``, and which end comes first."""

    first: int
    end: int
    newest_first: bool = True


class Engine(Protocol):
    """How one kind of database answers."""

    def find(self, question: Question, where: Range, count: int) -> list[int] | None:
        """The first ``count`` ids, in order; None: too many to sort, walk instead."""

    def walk(self, question: Question, where: Range, count: int) -> list[int]:
        """The same in a small range, by looking at each row of it."""


def add(entries: Iterable[Entry]) -> int:
    """Index entries that are not indexed yet, in the caller's transaction. Returns how many were given."""
    rows = [(entry.pk, " ".join(words_of(entry))) for entry in entries]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_ADD["postgresql"], [[pk for pk, _ in rows], [words for _, words in rows]])
        else:
            cursor.executemany(_ADD["sqlite"], rows)
    return len(rows)


def top() -> int:
    """The highest entry id that is indexed; 0 if none is."""
    table, key = _KEYS[connection.vendor]
    return int(_rows(f"SELECT max({key}) FROM {table}", [])[0][0] or 0)  # noqa: S608


def indexed(where: Range) -> set[int]:
    """The ids of a small range that are indexed."""
    table, key = _KEYS[connection.vendor]
    sql = f"SELECT {key} FROM {table} WHERE {key} >= %s AND {key} < %s"  # noqa: S608
    return {row[0] for row in _rows(sql, [where.first, where.end])}


def engine() -> Engine:
    """The one for this database. Raises KeyError on one that the portal does not support."""
    engines: dict[str, type[PostgreSQL] | type[SQLite]] = {"postgresql": PostgreSQL, "sqlite": SQLite}
    return engines[connection.vendor]()


class PostgreSQL:
    """A GIN index knows no order: few hits are sorted; for many, a walk along the key soon fills a page."""

    def find(self, question: Question, where: Range, count: int) -> list[int] | None:
        """See :class:`Engine`. ``+ 0`` keeps the planner from mixing in the primary key, page by page."""
        sql, given = self._sql(question, where, "w.entry_id + 0")
        with _without("enable_seqscan"):
            found = [row[0] for row in _rows(f"{sql} LIMIT {MANY + 1}", given)]
        if len(found) > MANY:
            return None
        return sorted(found, reverse=where.newest_first)[:count]

    def walk(self, question: Question, where: Range, count: int) -> list[int]:
        """See :class:`Engine`."""
        sql, given = self._sql(question, where, "w.entry_id")
        order = "DESC" if where.newest_first else "ASC"
        with _without("enable_bitmapscan", "enable_seqscan"):
            found = _rows(f"{sql} ORDER BY w.entry_id {order} LIMIT {count:d}", given)
        return [row[0] for row in found]

    def _sql(self, question: Question, where: Range, key: str) -> tuple[str, list[Any]]:
        times, given = _times(question)
        join = "JOIN audit_entry e ON e.id = w.entry_id" if times else ""
        return (
            f"SELECT w.entry_id FROM {TABLE} w {join} WHERE w.words @@ %s::tsquery "  # noqa: S608
            f"AND {key} >= %s AND {key} < %s {times}",
            [_tsquery(question), where.first, where.end, *given],
        )


class SQLite:
    """FTS5 reads its lists in the order of rowids, from either end: every question is a walk that skips."""

    def find(self, question: Question, where: Range, count: int) -> list[int] | None:
        """See :class:`Engine`; never too many."""
        times, given = _times(question)
        join = "JOIN audit_entry e ON e.id = w.rowid" if times else ""
        order = "DESC" if where.newest_first else "ASC"
        found = _rows(
            f"SELECT w.rowid FROM {TABLE} w {join} WHERE w.{TABLE} MATCH %s "  # noqa: S608
            f"AND w.rowid >= %s AND w.rowid < %s {times} ORDER BY w.rowid {order} LIMIT {count:d}",
            [_match(question), where.first, where.end, *given],
        )
        return [row[0] for row in found]

    def walk(self, question: Question, where: Range, count: int) -> list[int]:
        """See :class:`Engine`."""
        return self.find(question, where, count) or []


@contextmanager
def _without(*plans: str) -> Iterator[None]:
    """Keep PostgreSQL's planner from plans that are slow when its guess is wrong."""
    with transaction.atomic():
        # Starting parallel workers takes longer than they save.
        _rows("SET LOCAL max_parallel_workers_per_gather = 0", None)
        _rows("; ".join(f"SET LOCAL {name} = off" for name in plans), None)
        yield
        _rows("; ".join(f"SET LOCAL {name} = on" for name in plans), None)


def _times(question: Question) -> tuple[str, list[Any]]:
    parts = [("AND e.at >= %s", question.since), ("AND e.at < %s", question.until)]
    given = [(sql, connection.ops.adapt_datetimefield_value(at)) for sql, at in parts if at]
    return " ".join(sql for sql, _ in given), [at for _, at in given]


def _tsquery(question: Question) -> str:
    """Lexemes in quotes; our words hold neither quote nor backslash, and both are doubled all the same."""

    def lexeme(word: str) -> str:
        return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"

    typed = [lexeme(word) + (":*" if is_prefix(word) else "") for word in question.words]
    groups = ["(" + " | ".join(map(lexeme, group)) + ")" for group in question.groups]
    return " & ".join([*typed, *map(lexeme, question.signs), *groups])


def _match(question: Question) -> str:
    def token(word: str) -> str:
        return '"' + word.replace('"', '""') + '"'

    typed = [token(word) + (" *" if is_prefix(word) else "") for word in question.words]
    groups = ["(" + " OR ".join(map(token, group)) + ")" for group in question.groups]
    return " AND ".join([*typed, *map(token, question.signs), *groups])


def _rows(sql: str, given: list[Any] | None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return cursor.fetchall() if cursor.description else []
