"""A record that cannot be written, whoever tries and however."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.contrib.sessions.models import Session
from django.db import DatabaseError, connection

from audit.models import Entry


class RecordBroken(DatabaseError):
    """What the database says."""


def _refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if "INSERT" in sql[:20] and f'"{Entry._meta.db_table}"' in sql[:60]:
        raise RecordBroken("the record is broken")
    return execute(sql, params, many, context)


@contextmanager
def broken_record() -> Iterator[None]:
    """The table of entries takes no row."""
    with connection.execute_wrapper(_refuse):
        yield


def everything() -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, many-to-many ones too; but for sessions, which also hold challenges."""
    return {
        model._meta.label: sorted(model._default_manager.values_list(), key=repr)
        for model in apps.get_models(include_auto_created=True)
        if model is not Session
    }
