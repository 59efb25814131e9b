"""Which committed entries have no leaf yet: found without missing one that was committed late.

Ids are given at insertion and become visible at commit, so a smaller id can appear after a larger one. Who
remembers only the largest id seen would skip it. So entries are looked for above a low mark, and the mark
rises to the largest id seen only when every transaction that might still hold a smaller one has ended, and
one whole look since then has found nothing more.

Who might: on PostgreSQL an INSERT takes its lock on the table before it takes its id, and keeps it until its
transaction ends. So the holders of that lock, looked up after the largest id was read, are all of them. (Not
their transaction ids: a transaction may get its id after the row's, and an old snapshot of somebody's backup
would hold the mark back for hours.) On SQLite one transaction writes at a time, so ids come in order.
"""

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.db.models import IntegerField, Max
from django.db.models.expressions import Func
from django.db.models.lookups import Range

from audit.models import Entry
from audit.proofs import unsequenced
from protocol.receipts import MAX_EVENT_BYTES

_WRITERS = """
SELECT CASE WHEN pid IS NULL THEN 'prepared' ELSE virtualtransaction END FROM pg_locks
WHERE locktype = 'relation' AND granted AND pid IS DISTINCT FROM pg_backend_pid()
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND relation = %s::regclass
AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareUpdateExclusiveLock')
"""


PREPARED = "prepared"
"""What PostgreSQL calls a transaction changes when it is prepared: any such may be one that we wait for."""
SMALLEST = 2
"""Bytes of an event: ``{}``."""


class Octets(Func):
    """Bytes of a text; PostgreSQL answers without reading a long one."""

    function = "octet_length"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **more: Any) -> Any:
        """An older SQLite has no such function."""
        return self.as_sql(compiler, connection, template="length(CAST(%(expressions)s AS BLOB))", **more)


class Pending:
    """The search, from one look to the next. A new one begins with a look at the whole table."""

    def __init__(self, limit: int) -> None:
        """``limit``: entries in one look, at most."""
        self.low = 0
        self._limit = limit
        self._cursor: int | None = None
        """Where the look at a long backlog goes on; None at the start of a whole one."""
        self._high: int | None = None
        self._writers: frozenset[str] = frozenset()
        self._settled = False

    def look(self) -> list[int]:
        """The ids of the next entries, in their order. Each look sees what is committed when it begins."""
        if self._cursor is None:
            self._begin()
        after = self.low if self._cursor is None else self._cursor
        # The triggers take no others. One from before them, or past them, would fit into no bundle: it has no
        # leaf, and `audit_verify` names it.
        fitting = Range(Octets("event"), (SMALLEST, MAX_EVENT_BYTES))
        found = unsequenced(after).filter(fitting).order_by("pk").values_list("pk", flat=True)
        return list(found[: self._limit])

    def mark_after(self, ids: list[int]) -> int:
        """What the mark will be when ``ids``, just looked up, have their leaf."""
        if len(ids) == self._limit or not self._settled:
            return self.low
        return max(self.low, self._high or 0)

    def took(self, ids: list[int]) -> None:
        """These have their leaf now, and for good: only then may the mark rise."""
        self.low = self.mark_after(ids)
        self._cursor = ids[-1] if len(ids) == self._limit else None
        if self._cursor is None and self._settled:
            self._high = None

    def _begin(self) -> None:
        if self._high is None:
            # In this order: who takes an id after the largest was read takes a larger one.
            self._high = Entry.objects.aggregate(high=Max("pk"))["high"] or 0
            self._writers = _writers()
        else:
            self._writers = (self._writers | {PREPARED}) & _writers()
        self._settled = not self._writers


def _writers() -> frozenset[str]:
    """The transactions that may hold an id and have not ended."""
    return _WRITERS_OF[connection.vendor]()


def _postgresql_writers() -> frozenset[str]:
    with connection.cursor() as cursor:
        cursor.execute(_WRITERS, [Entry._meta.db_table])
        return frozenset(row[0] for row in cursor.fetchall())


_WRITERS_OF: dict[str, Callable[[], frozenset[str]]] = {
    "postgresql": _postgresql_writers,
    "sqlite": frozenset,
}
