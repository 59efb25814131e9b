"""The database's own clock, which decides about time; no process's does."""

from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, Func
from django.db.models.functions import Now
from django.utils import timezone


class Clock(Now):
    """The time when it is looked at; ``Now`` on PostgreSQL is when the statement began, and it may wait."""

    def as_postgresql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        """In the dialect that differs."""
        return self.as_sql(compiler, connection, template="CLOCK_TIMESTAMP()", **more)


class After(Func):
    """As many seconds after ``Now`` as a column holds: ``After("seconds")``."""

    arity = 1
    output_field = DateTimeField()

    def as_postgresql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        """Its own interval arithmetic."""
        template = "STATEMENT_TIMESTAMP() + (%(expressions)s) * interval '1 second'"
        return self.as_sql(compiler, connection, template=template, **more)

    def as_sqlite(self, compiler: Any, connection: Any, **more: Any) -> Any:
        """As Django writes ``Now`` there, with a modifier."""
        form = "%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f"
        template = f"STRFTIME('{form}', 'NOW', (%(expressions)s) || ' seconds')"
        return self.as_sql(compiler, connection, template=template, **more)


def database_time() -> datetime:
    """What the database's clock shows."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
    return found
