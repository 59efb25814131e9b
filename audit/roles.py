"""The database's roles: deploy/postgresql/roles.sql, run or compared with what stands. PostgreSQL only.

The file alone says who may do what. To compare, it is run in a transaction that is rolled back, and the
catalogue is read before and after.
"""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

Right = tuple[str, str, str]
"""Who, on what, which right."""

_RIGHTS = """
    WITH relation AS (SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace),
    granted AS (
        SELECT relname::text AS what, a.* FROM relation, aclexplode(relacl) a
        UNION ALL
        SELECT relname || '.' || attname, a.* FROM relation JOIN pg_attribute ON attrelid = relation.oid,
            aclexplode(attacl) a
        UNION ALL
        SELECT 'the schema', a.* FROM pg_namespace, aclexplode(nspacl) a WHERE nspname = 'public'
        UNION ALL
        SELECT 'the database', a.* FROM pg_database,
            aclexplode(coalesce(datacl, acldefault('d', datdba))) a WHERE datname = current_database()
        UNION ALL
        SELECT p.oid::regprocedure::text, a.* FROM pg_proc p,
            aclexplode(coalesce(proacl, acldefault('f', proowner))) a
            WHERE pronamespace = 'public'::regnamespace OR prosecdef
                AND pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        UNION ALL
        SELECT 'what will be made (' || defaclobjtype::text || ')', a.*
            FROM pg_default_acl, aclexplode(defaclacl) a
    )
    SELECT CASE grantee WHEN 0 THEN 'everybody' ELSE grantee::regrole::text END, what, privilege_type
    FROM granted WHERE grantee = 0 OR grantee <> grantor
    UNION ALL
    SELECT relowner::regrole::text, relname, 'ownership' FROM relation
    UNION ALL
    SELECT proowner::regrole::text, oid::regprocedure::text, 'ownership' FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT datdba::regrole::text, 'the database', 'ownership' FROM pg_database
        WHERE datname = current_database()
    UNION ALL
    SELECT nspowner::regrole::text, 'the schema', 'ownership' FROM pg_namespace WHERE nspname = 'public'
    UNION ALL
    SELECT member::regrole::text, 'the role ' || roleid::regrole::text, 'membership' FROM pg_auth_members
    UNION ALL
    SELECT rolname, 'the cluster', kind FROM pg_roles,
        LATERAL (VALUES ('SUPERUSER', rolsuper), ('CREATEDB', rolcreatedb), ('CREATEROLE', rolcreaterole),
            ('REPLICATION', rolreplication), ('BYPASSRLS', rolbypassrls), ('LOGIN', rolcanlogin))
            AS attribute (kind, has)
        WHERE has
"""


_SUPERUSERS = "SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY rolname"


class RolesError(Exception):
    """The roles cannot be applied or compared here; the message says what to do."""


def apply(connection: Any) -> None:
    """Make the database's roles and rights those of the file.

    Raises:
        RolesError: not PostgreSQL.
        DatabaseError: this user may not do it. The first time that takes a superuser.
    """
    with transaction.atomic(using=connection.alias):
        _run(connection)


def differences(connection: Any) -> list[str]:
    """What the file would change, a sentence each; empty if all is as it says. Raises as :func:`apply`."""
    _needs_postgresql(connection)
    with transaction.atomic(using=connection.alias):
        before = _rights(connection)
        _run(connection)
        after = _rights(connection)
        transaction.set_rollback(True, using=connection.alias)
    return [
        *(f"{who} has {right} on {what} and must not" for who, what, right in sorted(before - after)),
        *(f"{who} lacks {right} on {what}" for who, what, right in sorted(after - before)),
    ]


def superusers(connection: Any) -> list[str]:
    """The roles that no right binds, and that the file leaves alone: people must know them all."""
    with connection.cursor() as cursor:
        cursor.execute(_SUPERUSERS)
        return [name for (name,) in cursor.fetchall()]


def _run(connection: Any) -> None:
    _needs_postgresql(connection)
    with connection.cursor() as cursor:
        cursor.execute(Path(settings.BASE_DIR / "deploy" / "postgresql" / "roles.sql").read_text())


def _needs_postgresql(connection: Any) -> None:
    if connection.vendor != "postgresql":
        raise RolesError(
            "Only PostgreSQL has roles. On SQLite, whoever may write the file may write all of it."
        )


def _rights(connection: Any) -> set[Right]:
    with connection.cursor() as cursor:
        cursor.execute(_RIGHTS)
        return set(cursor.fetchall())
