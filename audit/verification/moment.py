"""One moment of the database for a verification that takes long, while others go on writing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from django.db import connection, connections, transaction

_inherited: list[object] = []
"""A child's copy of its parent's connection: kept, since closing it would end the parent's."""


@contextmanager
def one_moment() -> Iterator[str]:
    """All that is read inside is as it was at the first look.

    Answers the moment's name, for :func:`enter` in other processes; empty where it cannot be shared.
    """
    if connection.in_atomic_block:
        yield ""
        return
    with _MOMENTS[connection.vendor]() as name:
        yield name


def enter(name: str) -> None:
    """In a forked process: a connection of its own, that sees the same moment until the process ends."""
    _inherited.append(connections["default"])
    del connections["default"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_literal(%s)", [name])
        quoted = cursor.fetchone()[0]
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute(f"SET TRANSACTION SNAPSHOT {quoted}")  # before any query


@contextmanager
def _postgresql() -> Iterator[str]:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SELECT pg_export_snapshot()")
            name = str(cursor.fetchone()[0])
        yield name


@contextmanager
def _sqlite() -> Iterator[str]:
    # Not Django's transaction: those begin with the lock to write, and would keep the portal from working.
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield ""
        finally:
            cursor.execute("ROLLBACK")


_MOMENTS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "postgresql": _postgresql,
    "sqlite": _sqlite,
}
