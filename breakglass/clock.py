"""The database's own clock, which decides about time; no process's does."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, ExpressionWrapper, F, Value
from django.db.models.functions import Now
from django.utils import timezone


class Clock(Now):
    """The time when it is looked at; ``Now`` on PostgreSQL is when the statement began, and it may wait."""

    def as_postgresql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        """In the dialect that differs."""
        return self.as_sql(compiler, connection, template="CLOCK_TIMESTAMP()", **more)


def after(seconds: str) -> "ExpressionWrapper[Any]":
    """As many seconds from now as the column of that name holds."""
    return ExpressionWrapper(Now() + F(seconds) * Value(timedelta(seconds=1)), output_field=DateTimeField())


def database_time() -> datetime:
    """What the database's clock shows."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
    return found
