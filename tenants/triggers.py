"""The database's own refusal to change or remove what owners have signed, per engine.

``created_by`` is left out: it becomes empty when a person's account is deleted.
Used by the migration, and by the tests to empty the tables between two tests.
"""

from typing import Any

TABLES = ("tenants_keyringversion", "tenants_consentversion")
_KEPT = "tenant_id, version, document, signature, created_at"


def install(connection: Any) -> None:
    """Create the triggers. Raises KeyError on a database that the portal does not support."""
    _run(connection, _INSTALL[connection.vendor])


def remove(connection: Any) -> None:
    """Drop the triggers."""
    _run(connection, _REMOVE[connection.vendor])


def _run(connection: Any, statements: list[str]) -> None:
    with connection.cursor() as cursor:
        for table in TABLES:
            for statement in statements:
                cursor.execute(statement.format(table=table, kept=_KEPT))


_INSTALL = {
    "sqlite": [
        "CREATE TRIGGER {table}_no_update BEFORE UPDATE OF {kept} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'what was signed is kept as it is'); END",
        "CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'what was signed is kept as it is'); END",
    ],
    "postgresql": [
        """
        CREATE OR REPLACE FUNCTION tenants_signed_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was signed is kept as it is' USING ERRCODE = 'insufficient_privilege';
        END $$
        """,
        "CREATE TRIGGER {table}_no_update BEFORE UPDATE OF {kept} ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION tenants_signed_refuse()",
        "CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION tenants_signed_refuse()",
        # ALWAYS: as for the record of audit, it fires even under session_replication_role = replica.
        "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_update",
        "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_delete",
    ],
}
_REMOVE = {
    "sqlite": ["DROP TRIGGER IF EXISTS {table}_no_update", "DROP TRIGGER IF EXISTS {table}_no_delete"],
    "postgresql": [
        "DROP TRIGGER IF EXISTS {table}_no_update ON {table}",
        "DROP TRIGGER IF EXISTS {table}_no_delete ON {table}",
    ],
}
