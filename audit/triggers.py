"""The database's own refusal to change or remove a row of the record, per engine, from one list of tables.

Whoever adds an insert-only table names it in ``TABLES`` and calls :func:`install` in the migration that makes
it. ``audit/trigger_check.py`` compares what a database has with what is written here.

PostgreSQL: ``ENABLE ALWAYS``, so that ``session_replication_role = replica`` is no way around.
SQLite: ``INSERT OR REPLACE`` removes the old row without firing a DELETE trigger unless the connection has
set ``recursive_triggers``; so an INSERT that meets the key of a standing row is refused beforehand. Whoever
owns the file can drop any trigger (``PRAGMA writable_schema``); ``audit_verify`` finds what was done then.
"""

from collections.abc import Mapping, Sequence
from typing import Any

TABLES: tuple[str, ...] = (
    "audit_entry",
    "audit_leaf",
    "audit_tile",
    "audit_checkpoint",
    "audit_cosignature",
    "audit_witnessrefusal",
    "audit_refusalacknowledgement",
    "audit_dispute",
    "audit_disputeacknowledgement",
    "audit_segment",
    "audit_witness",
)
"""Every table whose rows are written once, but for what :data:`ALLOWED` says."""

ALLOWED: Mapping[str, str] = {
    # The body of an entry that stands in an archive may be emptied, and nothing else of it changed.
    "audit_entry": "NEW.event = '' AND NEW.id = OLD.id AND NEW.at = OLD.at AND NEW.action = OLD.action "
    "AND NEW.actor_kind = OLD.actor_kind AND NEW.actor_id = OLD.actor_id "
    "AND NEW.tenant_id IS NOT DISTINCT FROM OLD.tenant_id AND NEW.target_type = OLD.target_type "
    "AND NEW.target_id = OLD.target_id AND NEW.request_id = OLD.request_id AND EXISTS ("
    'SELECT 1 FROM audit_leaf l JOIN audit_segment s ON l."index" >= s."first" AND l."index" < s."end" '
    "WHERE l.entry_id = OLD.id)",
    # When it was asked, and why it did not answer; and once, that it is retired.
    "audit_witness": "NEW.id = OLD.id AND NEW.name = OLD.name AND NEW.vkey = OLD.vkey AND NEW.url = OLD.url "
    "AND NEW.target = OLD.target AND NEW.tenant_id IS NOT DISTINCT FROM OLD.tenant_id "
    "AND NEW.added_at = OLD.added_at "
    "AND (OLD.retired_at IS NULL OR NEW.retired_at IS NOT DISTINCT FROM OLD.retired_at)",
}
"""Table → the one kind of UPDATE that passes: an SQL condition over OLD and NEW that both engines read."""

FITTING: Mapping[str, Mapping[str, str]] = {
    # Whoever may insert could otherwise leave what no bundle holds, what no reader parses, or what is dated
    # such that alarms and archives wait for it. By the clock, not by the transaction's begin: a long
    # transaction writes its entries when they happen.
    "audit_entry": {
        "postgresql": "octet_length(NEW.event) BETWEEN 2 AND 60000"
        " AND json_typeof(NEW.event::json) = 'object'"
        " AND NEW.at BETWEEN clock_timestamp() - interval '15 minutes'"
        " AND clock_timestamp() + interval '15 minutes'",
        "sqlite": "typeof(NEW.event) = 'text' AND length(CAST(NEW.event AS BLOB)) BETWEEN 2 AND 60000 "
        "AND CASE WHEN json_valid(NEW.event) THEN json_type(NEW.event) = 'object' ELSE 0 END "
        "AND abs(julianday(NEW.at) - julianday('now')) * 1440 <= 15",
    },
}
"""Table → what must hold of a new row, an SQL condition over NEW for each engine."""

_TOLD = "is append-only: its rows are neither changed nor removed"
_MISFIT = "takes no such row: an event is a JSON object of 2 to 60000 bytes, dated within 15 minutes of now"


def install(connection: Any, *tables: str) -> None:
    """Make the triggers of these tables, or of all there are by now. Does no harm where they stand already.

    Raises KeyError on a database that the portal does not support."""
    statements = _INSTALL[connection.vendor]
    remove(connection, *tables)
    for table in _there(connection, tables):
        _run(connection, statements(connection, table))


def remove(connection: Any, *tables: str) -> None:
    """Drop the triggers of these tables, or of all. For migrations backwards, and between two tests."""
    statements = _REMOVE[connection.vendor]
    for table in _there(connection, tables):
        _run(connection, statements(table))


def sqlite_triggers(connection: Any, table: str) -> dict[str, str]:
    """Name → text, just as SQLite keeps it in its schema."""
    allowed = f" WHEN NOT ({ALLOWED[table]})" if table in ALLOWED else ""
    heads = {
        "no_update": f"BEFORE UPDATE ON {table}{allowed}",
        "no_delete": f"BEFORE DELETE ON {table}",
        "no_replace": f"BEFORE INSERT ON {table} WHEN {_taken(connection, table)}",
    }
    said = dict.fromkeys(heads, _TOLD)
    if table in FITTING:
        heads["no_misfit"] = f"BEFORE INSERT ON {table} WHEN NOT coalesce({FITTING[table]['sqlite']}, 0)"
        said["no_misfit"] = _MISFIT
    return {
        f"{table}_{name}": f"CREATE TRIGGER {table}_{name} {head} "
        f"BEGIN SELECT RAISE(ABORT, '{table} {said[name]}'); END"
        for name, head in heads.items()
    }


def postgresql_body(table: str) -> str:
    """The text of the function behind a table's triggers."""
    passing = ""
    if table in ALLOWED:
        passing = f"IF TG_OP = 'UPDATE' THEN IF {ALLOWED[table]} THEN RETURN NEW; END IF; END IF; "
    return f"BEGIN {passing}RAISE EXCEPTION '{table} {_TOLD}' USING ERRCODE = 'insufficient_privilege'; END"


def postgresql_fitting(table: str) -> str:
    """The text of the function that looks at new rows."""
    return (
        f"BEGIN IF ({FITTING[table]['postgresql']}) IS NOT TRUE THEN "
        f"RAISE EXCEPTION '{table} {_MISFIT}' USING ERRCODE = 'check_violation'; END IF; RETURN NEW; END"
    )


def _taken(connection: Any, table: str) -> str:
    """Whether a new row has a key of a row that is there: what OR REPLACE would put out of the way."""
    with connection.cursor() as cursor:
        columns = cursor.execute(f"PRAGMA table_info({table})").fetchall()
        where: dict[int, str] = {}
        """Of an index over some of the rows, which these are."""
        keys = [[name for _, name, *_, primary in columns if primary]]
        for _, index, unique, _, partial in sorted(cursor.execute(f"PRAGMA index_list({table})").fetchall()):
            if not unique:
                continue
            keys.append([row[2] for row in cursor.execute(f'PRAGMA index_info("{index}")').fetchall()])
            if partial:
                cursor.execute("SELECT sql FROM sqlite_master WHERE name = %s", [index])
                where[len(keys) - 1] = f" AND ({cursor.fetchone()[0].partition(' WHERE ')[2]})"
    same = sorted(
        {
            " AND ".join(f'"{name}" = NEW."{name}"' for name in key) + where.get(number, "")
            for number, key in enumerate(keys)
        }
    )
    return " OR ".join(f"EXISTS (SELECT 1 FROM {table} WHERE {one})" for one in same)  # noqa: S608 - names of ours


def _sqlite_install(connection: Any, table: str) -> Sequence[str]:
    return list(sqlite_triggers(connection, table).values())


def _postgresql_install(_: Any, table: str) -> Sequence[str]:
    return (
        _function(f"{table}_refuse", postgresql_body(table)),
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_refuse()",
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_change, "
        f"ENABLE ALWAYS TRIGGER {table}_no_truncate",
        *(_postgresql_fitting(table) if table in FITTING else ()),
    )


def _postgresql_fitting(table: str) -> Sequence[str]:
    return (
        _function(f"{table}_fits", postgresql_fitting(table)),
        f"CREATE TRIGGER {table}_no_misfit BEFORE INSERT ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_fits()",
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_misfit",
    )


def _function(name: str, body: str) -> str:
    # pg_temp last: a temporary table of a name that ALLOWED mentions must not answer for it.
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
        f"SET search_path = pg_catalog, public, pg_temp AS $$ {body} $$"
    )


def _sqlite_remove(table: str) -> Sequence[str]:
    names = ("no_update", "no_delete", "no_replace", "no_misfit")
    return [f"DROP TRIGGER IF EXISTS {table}_{name}" for name in names]


def _postgresql_remove(table: str) -> Sequence[str]:
    names = ("no_change", "no_truncate", "no_misfit")
    return [f"DROP TRIGGER IF EXISTS {table}_{name} ON {table}" for name in names]


_INSTALL = {"sqlite": _sqlite_install, "postgresql": _postgresql_install}
_REMOVE = {"sqlite": _sqlite_remove, "postgresql": _postgresql_remove}


def _there(connection: Any, tables: Sequence[str]) -> list[str]:
    """A migration of long ago asks for all tables, and most are made after it."""
    if tables:
        return list(tables)
    with connection.cursor() as cursor:
        present = set(connection.introspection.table_names(cursor))
    return [name for name in TABLES if name in present]


def _run(connection: Any, statements: Sequence[str]) -> None:
    """In one round trip where the engine takes it: tests do this hundreds of times."""
    with connection.cursor() as cursor:
        for statement in [";\n".join(statements)] if connection.vendor == "postgresql" else statements:
            cursor.execute(statement)
