import json
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from audit.context import Actor, bind, command
from audit.models import AppendOnlyError, Entry
from audit.services import record
from protocol.canonical import canonical

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")


def write() -> Entry:
    with transaction.atomic():
        return record(action="thing.done", actor=TESTER, target=("thing", 1), data={"n": 1})


def execute(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_an_entry_is_canonical_and_carries_its_context() -> None:
    """Actor, target, request and data stand in the stored bytes."""
    with bind(request_id="r-1", task_id="t-1"):
        entry = write()
    document = json.loads(entry.event)
    assert entry.event.encode() == canonical(document)
    assert (document["request"], document["task"], document["target"]) == (
        "r-1",
        "t-1",
        {"type": "thing", "id": "1"},
    )


def test_outside_a_transaction_it_refuses() -> None:
    """A change and its entry must not be able to part."""
    with pytest.raises(transaction.TransactionManagementError):
        record(action="thing.done", actor=TESTER)
    assert not Entry.objects.exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET action = 'other'",
        "UPDATE audit_entry SET event = event",
        "DELETE FROM audit_entry",
        "DELETE FROM audit_entry WHERE id > 0",
    ],
)
def test_the_database_refuses_changes(statement: str) -> None:
    """Not only Django: plain SQL is refused, and the entry stays as it was."""
    before = write().event
    with pytest.raises(DatabaseError, match="append-only"):
        execute(statement)
    assert Entry.objects.get().event == before


@pytest.mark.parametrize(
    "statements",
    [
        ["TRUNCATE audit_entry"],
        ["SET LOCAL session_replication_role = replica", "DELETE FROM audit_entry"],
        ["SET LOCAL session_replication_role = replica", "TRUNCATE audit_entry"],
        ["SET LOCAL session_replication_role = replica", "UPDATE audit_entry SET action = ''"],
    ],
)
def test_postgresql_refuses_even_in_replica_mode(statements: list[str]) -> None:
    """The usual ways around triggers are closed. (SQLite has neither TRUNCATE nor a replica mode.)"""
    write()
    if connection.vendor == "postgresql":
        with pytest.raises(DatabaseError, match="append-only"):
            execute("; ".join(statements))
    else:
        with pytest.raises(DatabaseError):
            execute(statements[0])
    assert Entry.objects.count() == 1


def test_model_methods_refuse() -> None:
    """A programmer's slip fails before it reaches the database."""
    entry = write()
    attempts: list[Any] = [entry.save, entry.delete, Entry.objects.all().delete]
    for attempt in attempts:
        with pytest.raises(AppendOnlyError):
            attempt()
    with pytest.raises(AppendOnlyError):
        Entry.objects.update(action="x")


def test_an_actor_is_recorded_by_number_not_by_name() -> None:
    """Names are personal data and stay outside the record."""
    with transaction.atomic():
        entry = record(action="a.b", actor=Actor(kind="user", id="7"))
    assert json.loads(entry.event)["actor"] == {"kind": "user", "id": "7"}
