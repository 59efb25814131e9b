"""Whether a database still refuses to change the record: each trigger as installed, and nothing beside them.

A trigger or rule that somebody adds to a table of the record can drop or alter rows as they are written, so
those are problems too.
"""

from typing import Any

from audit.triggers import FITTING, TABLES, postgresql_body, postgresql_fitting, sqlite_triggers

_ROW, _BEFORE, _INSERT, _DELETE, _UPDATE, _TRUNCATE = 1, 2, 4, 8, 16, 32
"""Bits of pg_trigger.tgtype (PostgreSQL's catalog/pg_trigger.h)."""
_TYPES = {"no_change": _ROW | _BEFORE | _DELETE | _UPDATE, "no_truncate": _BEFORE | _TRUNCATE}
_FITTING = _ROW | _BEFORE | _INSERT

_TRIGGERS = """
    SELECT t.tgname, c.relname, t.tgtype, p.proname, btrim(p.prosrc),
        t.tgenabled = 'A' AND t.tgqual IS NULL AND t.tgattr = ''::int2vector
            AND l.lanname = 'plpgsql' AND p.pronamespace = c.relnamespace
    FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_proc p ON p.oid = t.tgfoid
    JOIN pg_language l ON l.oid = p.prolang
    WHERE NOT t.tgisinternal AND c.relname = ANY(%s) AND c.relnamespace = current_schema()::regnamespace
"""
_STRANGE = """
    SELECT 'the rule ' || r.rulename || ' stands on ' || c.relname
    FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
    WHERE c.relname = ANY(%(tables)s) AND c.relnamespace = current_schema()::regnamespace
    UNION ALL
    SELECT format('%%s is not an ordinary table: kind %%s, persistence %%s, row security %%s',
        c.relname, c.relkind, c.relpersistence, c.relrowsecurity)
    FROM pg_class c
    WHERE c.relname = ANY(%(tables)s) AND c.relnamespace = current_schema()::regnamespace
      AND (c.relkind <> 'r' OR c.relpersistence <> 'p' OR c.relrowsecurity)
    UNION ALL
    SELECT i.inhrelid::regclass || ' inherits from ' || c.relname
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
    WHERE c.relname = ANY(%(tables)s) AND c.relnamespace = current_schema()::regnamespace
"""


def trigger_problems(connection: Any) -> list[str]:
    """What keeps the database from refusing changes, one plain sentence each; empty if it is whole."""
    return _CHECKS[connection.vendor](connection)


def _postgresql(connection: Any) -> list[str]:
    wanted = {
        (f"{table}_{name}", table, kind, f"{table}_refuse", postgresql_body(table), True)
        for table in TABLES
        for name, kind in _TYPES.items()
    } | {
        (f"{table}_no_misfit", table, _FITTING, f"{table}_fits", postgresql_fitting(table), True)
        for table in FITTING
    }
    with connection.cursor() as cursor:
        cursor.execute(_TRIGGERS, [list(TABLES)])
        found = set(cursor.fetchall())
        cursor.execute(_STRANGE, {"tables": list(TABLES)})
        strange = [text for (text,) in cursor.fetchall()]
    return _compared({row[0] for row in wanted - found}, {row[0] for row in found - wanted}) + strange


def _sqlite(connection: Any) -> list[str]:
    with connection.cursor() as cursor:
        present = set(connection.introspection.table_names(cursor))
        cursor.execute("SELECT name, sql, tbl_name FROM sqlite_master WHERE type = 'trigger'")
        found = {(name, text) for name, text, table in cursor.fetchall() if table in TABLES}
    gone = [f"the table {table} is missing" for table in TABLES if table not in present]
    tables = [table for table in TABLES if table in present]
    wanted = {item for table in tables for item in sqlite_triggers(connection, table).items()}
    return gone + _compared({name for name, _ in wanted - found}, {name for name, _ in found - wanted})


def _compared(absent: set[str], others: set[str]) -> list[str]:
    return [
        *(f"the trigger {name} is missing, switched off or altered" for name in sorted(absent)),
        *(f"the trigger {name} is none of the portal's" for name in sorted(others - absent)),
    ]


_CHECKS = {"postgresql": _postgresql, "sqlite": _sqlite}
