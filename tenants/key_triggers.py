"""The database's own refusal to bring a tenant's key back, change what it is, or drop its row, per engine.

Used by the migration, and by the tests to empty the table between two tests.
"""

from typing import Any

TABLE = "tenants_tenantkey"
_FIXED = ("tenant_id", "version", "public_key")
_TOLD = "a tenant key stays what it is, and a destroyed one stays destroyed"


def install(connection: Any) -> None:
    """Create the triggers. Raises KeyError on a database that the portal does not support."""
    _run(connection, _INSTALL[connection.vendor])


def remove(connection: Any) -> None:
    """Drop the triggers."""
    _run(connection, _REMOVE[connection.vendor])


def _run(connection: Any, statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


_CHANGED = " OR ".join([f"OLD.{name} <> NEW.{name}" for name in _FIXED] + ["OLD.state = 'destroyed'"])
_INSTALL = {
    "sqlite": [
        f"CREATE TRIGGER {TABLE}_no_return BEFORE UPDATE ON {TABLE} WHEN {_CHANGED} "
        f"BEGIN SELECT RAISE(ABORT, '{_TOLD}'); END",
        f"CREATE TRIGGER {TABLE}_no_delete BEFORE DELETE ON {TABLE} "
        f"BEGIN SELECT RAISE(ABORT, '{_TOLD}'); END",
    ],
    "postgresql": [
        f"""
        CREATE OR REPLACE FUNCTION tenants_key_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '{_TOLD}' USING ERRCODE = 'insufficient_privilege';
        END $$
        """,
        f"CREATE TRIGGER {TABLE}_no_return BEFORE UPDATE ON {TABLE} FOR EACH ROW WHEN ({_CHANGED}) "
        "EXECUTE FUNCTION tenants_key_refuse()",
        f"CREATE TRIGGER {TABLE}_no_delete BEFORE DELETE ON {TABLE} "
        "FOR EACH ROW EXECUTE FUNCTION tenants_key_refuse()",
        f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER {TABLE}_no_return",
        f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER {TABLE}_no_delete",
    ],
}
_REMOVE = {
    "sqlite": [f"DROP TRIGGER IF EXISTS {TABLE}_no_return", f"DROP TRIGGER IF EXISTS {TABLE}_no_delete"],
    "postgresql": [
        f"DROP TRIGGER IF EXISTS {TABLE}_no_return ON {TABLE}",
        f"DROP TRIGGER IF EXISTS {TABLE}_no_delete ON {TABLE}",
    ],
}
