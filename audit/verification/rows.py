"""Leaves beside their entries, as the engine stores them, in a stream."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Max, Min

from audit.models import Leaf

Row = tuple[Any, ...]
"""index, leaf hash, entry id, event bytes (None, and nothing after it, where the entry is gone), microseconds
since 1970, tenant in hex or None, and the columns of :data:`TEXTS`."""
TEXTS = ("action", "actor_kind", "actor_id", "target_type", "target_id", "request_id")
EVENT, AT, TENANT, FIRST_TEXT = 3, 4, 5, 6

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_POSTGRESQL_EPOCH = 946_684_800_000_000
"""Microseconds from 1970 to 2000, from where PostgreSQL's binary timestamps count."""
_SELECT = f"""
    SELECT l."index", l.hash, l.entry_id, e.event, e.at, e.tenant_id,
        {", ".join(f"e.{name}" for name in TEXTS)}
    FROM audit_leaf l LEFT JOIN audit_entry e ON e.id = l.entry_id AND e.id BETWEEN {{low:d}} AND {{high:d}}
    WHERE l."index" >= {{first:d}} AND l."index" < {{end:d}} ORDER BY l."index"
"""  # noqa: S608 - names of ours and integers


def rows(first: int, end: int) -> Iterator[Row]:
    """The leaves ``first <= index < end``, in the order of their indexes; gaps stay gaps."""
    ids = Leaf.objects.filter(index__gte=first, index__lt=end).aggregate(
        low=Min("entry_id"), high=Max("entry_id")
    )
    # Said in numbers, or PostgreSQL reads all entries for each chunk.
    low, high = ids["low"] or 0, ids["high"] or 0
    return _ROWS[connection.vendor](_SELECT.format(first=first, end=end, low=low, high=high))


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - EPOCH) // MICROSECOND


def _postgresql(select: str) -> Iterator[Row]:
    """COPY in binary: half the work of a cursor. Times as the integers that they are, tenants as 16 bytes."""
    connection.ensure_connection()
    texts = ["text"] * len(TEXTS)
    with (
        connection.connection.cursor() as cursor,
        cursor.copy(f"COPY ({select}) TO STDOUT (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["int8", "bytea", "int8", "bytea", "int8", "bytea", *texts])
        for index, leaf, entry, event, at, tenant, *more in copy.rows():
            if event is None:
                yield index, leaf, entry, None
            else:
                yield index, leaf, entry, event, at + _POSTGRESQL_EPOCH, tenant and tenant.hex(), *more


def _sqlite(select: str) -> Iterator[Row]:
    with connection.cursor() as cursor:
        cursor.execute(select)
        for index, leaf, entry, event, at, tenant, *more in cursor:
            if event is None:
                yield index, leaf, entry, None
            else:
                moment = microseconds(datetime.fromisoformat(str(at)).replace(tzinfo=UTC))
                yield index, leaf, entry, str(event).encode(), moment, tenant, *more


_ROWS: dict[str, Callable[[str], Iterator[Row]]] = {"postgresql": _postgresql, "sqlite": _sqlite}
