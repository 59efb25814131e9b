"""Each insert-only table refuses each way of changing it, and a database that no longer refuses is told of."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit import triggers
from audit.models import Entry
from audit.trigger_check import trigger_problems
from tests.audit.rows import ROWS, row_of

pytestmark = pytest.mark.django_db(transaction=True)
WRITTEN_ONCE = [table for table in triggers.TABLES if table != "audit_witness"]
written_once = pytest.mark.parametrize("table", WRITTEN_ONCE)
every_table = pytest.mark.parametrize("table", triggers.TABLES)


def execute(*statements: str) -> None:
    """All in one transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def content(table: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
        return list(cursor.fetchall())


def column(table: str) -> str:
    """The table's first column, quoted."""
    with connection.cursor() as cursor:
        return f'"{connection.introspection.get_table_description(cursor, table)[0].name}"'


def copy(table: str) -> str:
    """Where SQLite would put the same row once more."""
    return f"INTO {table} SELECT * FROM {table}"


@pytest.fixture
def row(table: str) -> str:
    row_of(table)
    assert content(table), "there must be something to change"
    return table


def refused(table: str, *statements: str) -> None:
    before = content(table)
    with pytest.raises(DatabaseError, match="append-only"):
        execute(*statements)
    assert content(table) == before


def test_each_table_has_a_row_to_try_it_on() -> None:
    assert set(ROWS) == set(triggers.TABLES)


@written_once
def test_update_is_refused(row: str) -> None:
    """Also one that sets what is there already."""
    refused(row, f"UPDATE {row} SET {column(row)} = {column(row)}")


@every_table
def test_delete_is_refused(row: str) -> None:
    refused(row, f"DELETE FROM {row}")


AROUND = {
    "postgresql": {
        # The superuser's usual switch leaves triggers that are ENABLE ALWAYS alone.
        f"{verb.split()[0]} in mode {mode}": (f"SET LOCAL session_replication_role = {mode}", verb)
        for mode in ("origin", "replica", "local")
        for verb in ("TRUNCATE {table} CASCADE", "DELETE FROM {table}", "UPDATE {table} SET {one} = {one}")
    }
    | {"upsert": ("INSERT {copy} ON CONFLICT ({key}) DO UPDATE SET {one} = EXCLUDED.{one}",)},
    "sqlite": {
        # Whatever the connection says of triggers on rows that are replaced.
        f"{verb}, recursive {recursive}": (f"PRAGMA recursive_triggers = {recursive}", f"{verb} {{copy}}")
        for recursive in ("OFF", "ON")
        for verb in ("REPLACE", "INSERT OR REPLACE", "INSERT OR IGNORE")
    }
    | {"update or replace": ("UPDATE OR REPLACE {table} SET {one} = {one}",)},
}[connection.vendor]


@written_once
@pytest.mark.parametrize("way", AROUND)
def test_the_engines_own_ways_around_are_refused(row: str, way: str) -> None:
    """Each engine has statements and switches of its own that remove or alter rows."""
    with connection.cursor() as cursor:
        key = (connection.introspection.get_primary_key_columns(cursor, row) or [""])[0]
    words = {"table": row, "one": column(row), "copy": copy(row), "key": f'"{key}"'}
    refused(row, *(statement.format(**words) for statement in AROUND[way]))


@every_table
def test_rows_are_still_added(table: str) -> None:
    row_of(table)
    row_of(table)
    assert len(content(table)) >= 2


def witness(retired: str = "NULL") -> None:
    row_of("audit_witness")
    execute(
        f"UPDATE audit_witness SET asked_at = '2026-01-01 00:00:00+00:00', problem = 'x', retired_at = {retired}"
    )


@pytest.mark.parametrize(
    "change",
    [
        "id = id + 1",
        "name = 'x'",
        "vkey = 'x'",
        "url = 'https://other.example/'",
        "url = '', target = 'x'",
        "tenant_id = '11111111111141118111111111111111'",
        "added_at = '2001-01-01 00:00:00+00:00'",
        "retired_at = NULL",
        "retired_at = '2027-01-01 00:00:00+00:00'",
    ],
)
def test_a_witness_stays_who_it_is(change: str) -> None:
    """Nor does one come back that was retired. What a worker notes while it asks does pass."""
    witness("'2026-01-02 00:00:00+00:00'")
    refused("audit_witness", f"UPDATE audit_witness SET {change}")


def test_a_witness_is_not_replaced_and_its_name_is_free_when_it_is_retired() -> None:
    witness()
    verb = "INSERT" if connection.vendor == "postgresql" else "INSERT OR REPLACE"
    same = (
        f"{verb} INTO audit_witness (name, vkey, url, target, problem, added_at) "
        "SELECT name, vkey || 'x', url, target, '', added_at FROM audit_witness"
    )
    with pytest.raises(DatabaseError):
        execute(same)
    assert len(content("audit_witness")) == 1
    execute("UPDATE audit_witness SET retired_at = '2026-01-02 00:00:00+00:00'", same)
    assert len(content("audit_witness")) == 2


NOW = timedelta()
MISFITS: dict[str, tuple[str, timedelta]] = {
    "nothing": ("", NOW),
    "one byte": ("1", NOW),
    "no JSON": ("{'a':1}", NOW),
    "no object": ("[1]", NOW),
    "a number": ("12", NOW),
    "brackets without end": ("[" * 50_000, NOW),
    "too long": (json.dumps({"a": "x" * 60_000}), NOW),
    "too long in bytes": (json.dumps({"a": "ß" * 30_000}, ensure_ascii=False), NOW),
    "of the past": ("{}", -timedelta(minutes=16)),
    "of the future": ("{}", timedelta(minutes=16)),
    "of 2099": ("{}", timedelta(days=27_000)),
}
FITS = {
    "the smallest": ("{}", NOW),
    "the longest": (json.dumps({"a": "x" * (60_000 - len('{"a": ""}'))}), NOW),
    "a slow writer": ("{}", -timedelta(minutes=14)),
    "a fast clock": ("{}", timedelta(minutes=14)),
}


def add(event: str, off: timedelta) -> None:
    given: dict[str, Any] = {"action": "a.b", "actor_kind": "system", "actor_id": ""}
    with transaction.atomic():
        if connection.vendor == "postgresql":
            execute("SET LOCAL session_replication_role = replica")
        Entry.objects.create(**dict(given, at=timezone.now() + off, event=event))


@pytest.mark.parametrize("what", MISFITS)
def test_an_entry_that_nobody_could_read_is_refused(what: str) -> None:
    """Whoever may insert past record() cannot leave what no bundle holds, or what is dated elsewhere."""
    with pytest.raises(DatabaseError):
        add(*MISFITS[what])
    assert content("audit_entry") == []


@pytest.mark.parametrize("what", FITS)
def test_an_entry_that_fits_is_taken(what: str) -> None:
    add(*FITS[what])
    assert len(content("audit_entry")) == 1


def test_a_whole_database_has_no_problem() -> None:
    assert trigger_problems(connection) == []


def test_installing_again_changes_nothing() -> None:
    triggers.install(connection)
    triggers.install(connection, triggers.TABLES[0])
    assert trigger_problems(connection) == []


@every_table
def test_a_dropped_trigger_is_told(table: str) -> None:
    triggers.remove(connection, table)
    found = trigger_problems(connection)
    triggers.install(connection, table)
    assert found
    assert all(f"{table}_no_" in text and "is missing" in text for text in found)


ALTERED = "{0}_no_change is missing, switched off or altered"
WEAKENED = {
    "postgresql": {
        "switched off": ("ALTER TABLE {0} DISABLE TRIGGER {0}_no_change", ALTERED),
        "not always": ("ALTER TABLE {0} ENABLE TRIGGER {0}_no_change", ALTERED),
        "all of them": ("ALTER TABLE {0} DISABLE TRIGGER ALL", ALTERED),
        "hollow function": (
            "CREATE OR REPLACE FUNCTION {0}_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            ALTERED,
        ),
        "only where": (
            "DROP TRIGGER {0}_no_change ON {0}",
            "CREATE TRIGGER {0}_no_change BEFORE DELETE OR UPDATE ON {0} "
            "FOR EACH ROW WHEN (OLD IS NULL) EXECUTE FUNCTION {0}_refuse()",
            "ALTER TABLE {0} ENABLE ALWAYS TRIGGER {0}_no_change",
            ALTERED,
        ),
        "one that swallows": (
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER swallow BEFORE INSERT ON {0} FOR EACH ROW WHEN (true) EXECUTE FUNCTION swallow()",
            "the trigger swallow is none of the portal's",
        ),
        "a rule": (
            "CREATE RULE deaf AS ON INSERT TO {0} DO INSTEAD NOTHING",
            "the rule deaf stands on {0}",
        ),
        "takes anything": (
            "DROP TRIGGER {0}_no_misfit ON {0}",
            "{0}_no_misfit is missing, switched off or altered",
        ),
        "row security": ("ALTER TABLE {0} ENABLE ROW LEVEL SECURITY", "row security t"),
        "a child": ("CREATE TABLE below () INHERITS ({0})", "below inherits from {0}"),
    },
    "sqlite": {
        "hollow": (
            "DROP TRIGGER {0}_no_update",
            "CREATE TRIGGER {0}_no_update BEFORE UPDATE ON {0} BEGIN SELECT 1; END",
            "{0}_no_update is missing",
        ),
        "takes anything": ("DROP TRIGGER {0}_no_misfit", "{0}_no_misfit is missing"),
        "one that follows": (
            "CREATE TRIGGER follow AFTER INSERT ON {0} BEGIN SELECT 1; END",
            "the trigger follow is none of the portal's",
        ),
        "written schema": (
            "PRAGMA writable_schema = ON",
            "DELETE FROM sqlite_master WHERE name = '{0}_no_delete'",
            "{0}_no_delete is missing",
        ),
    },
}[connection.vendor]


@pytest.mark.parametrize("way", WEAKENED)
def test_what_weakens_the_refusal_is_told(way: str) -> None:
    """What the owner of the tables can do so that changes pass, or entries vanish as they are written."""
    *statements, told = WEAKENED[way]
    try:
        with transaction.atomic():
            execute(*(statement.format("audit_entry") for statement in statements))
            found = trigger_problems(connection)
            transaction.set_rollback(True)
    finally:
        if connection.vendor == "sqlite":
            execute("PRAGMA writable_schema = RESET")
    assert any(told.format("audit_entry") in text for text in found), found
