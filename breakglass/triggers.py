"""The database's own refusals around tickets, per engine.

``TABLES`` are written once, as the record's are (:mod:`audit.triggers`). What else is refused stands in
:mod:`breakglass.rules`. So neither a shell nor a page that goes round the services makes an approval that
counts here; no guest would believe one.
"""

from collections.abc import Iterator
from typing import Any

from audit import triggers as written_once
from breakglass.rules import RULES

TABLES: tuple[str, ...] = (
    "breakglass_approversetversion",
    "breakglass_setsignature",
    "breakglass_tenantapprovers",
    "breakglass_termsversion",
    "breakglass_revision",
    "breakglass_approval",
    "breakglass_rejection",
    "breakglass_ownerapproval",
    "breakglass_intent",
    "breakglass_receipt",
)
"""Every table of this room whose rows are written once."""


def install(connection: Any) -> None:
    """Make all triggers of this room. Does no harm where they stand already.

    Raises KeyError on a database that the portal does not support."""
    written_once.install(connection, *TABLES)
    remove_rules(connection)
    _run(connection, _statements(connection.vendor))


def remove(connection: Any) -> None:
    """Drop them. For migrations backwards, and between two tests."""
    written_once.remove(connection, *TABLES)
    remove_rules(connection)


def remove_rules(connection: Any) -> None:
    """Drop those of :data:`RULES`."""
    on = " ON {0}" if connection.vendor == "postgresql" else ""
    _run(
        connection,
        [f"DROP TRIGGER IF EXISTS {_name(table, deed)}{on.format(table)}" for table, deed, _, _ in RULES],
    )


def _name(table: str, deed: str) -> str:
    return f"{table}_rule_{deed.lower()}"


def _statements(engine: str) -> Iterator[str]:
    for table, deed, conditions, said in RULES:
        yield from _ENGINES[engine](table, deed, conditions[engine], said)


def _sqlite(table: str, deed: str, condition: str, said: str) -> Iterator[str]:
    message = said.replace("'", "''")
    yield (
        f"CREATE TRIGGER {_name(table, deed)} BEFORE {deed} ON {table} WHEN NOT coalesce({condition}, 0) "
        f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
    )


def _postgresql(table: str, deed: str, condition: str, said: str) -> Iterator[str]:
    name, row = _name(table, deed), "OLD" if deed == "DELETE" else "NEW"
    message = said.replace("'", "''")
    yield (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql "
        f"SET search_path = pg_catalog, public, pg_temp AS $$ BEGIN IF ({condition}) IS NOT TRUE THEN "
        f"RAISE EXCEPTION '{message}' USING ERRCODE = 'check_violation'; END IF; RETURN {row}; END $$"
    )
    yield f"CREATE TRIGGER {name} BEFORE {deed} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
    yield f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"


_ENGINES = {"sqlite": _sqlite, "postgresql": _postgresql}


def _run(connection: Any, statements: Any) -> None:
    """In one round trip where the engine takes it: tests do this hundreds of times."""
    found = list(statements)
    with connection.cursor() as cursor:
        for statement in [";\n".join(found)] if connection.vendor == "postgresql" else found:
            cursor.execute(statement)
