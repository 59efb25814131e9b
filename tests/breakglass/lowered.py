"""What no service and no statement may do while the triggers stand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from breakglass import triggers
from breakglass.models import Ticket


@contextmanager
def triggers_down() -> Iterator[None]:
    """Without this room's triggers, for the block. PostgreSQL alters no table while a foreign key waits."""
    _check_now()
    triggers.remove(connection)
    try:
        yield
    finally:
        _check_now()
        triggers.install(connection)


def set_times(ticket: Ticket, **times: Any) -> None:
    """Turn a ticket's clock."""
    with triggers_down():
        Ticket.objects.filter(pk=ticket.pk).update(**times)


def _check_now() -> None:
    if connection.vendor == "postgresql" and connection.in_atomic_block and not connection.needs_rollback:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
