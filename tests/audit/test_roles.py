"""Each role of the database, each table, each verb: tried on a real server, by a login of that role."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from psycopg import sql

from audit.roles import RolesError, apply, differences
from breakglass import triggers as break_glass_triggers
from tests.audit.postgresql import connect, own_database, url

# The copies are of the tests' database, which pytest-django makes only for tests that say that they use it.
pytestmark = pytest.mark.django_db
needs_roles = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no roles")

ROLES = ("portal_app", "portal_sequencer", "portal_verifier")
READ, ADD, ALL = {"SELECT"}, {"SELECT", "INSERT"}, {"SELECT", "INSERT", "UPDATE", "DELETE"}
FENCE = {"SELECT", "UPDATE"}
NONE: set[str] = set()
RECORD = {
    # table: what app, sequencer and verifier may do with it
    "audit_entry": (ADD, READ, READ),
    "audit_leaf": (READ, ADD, READ),
    "audit_tile": (READ, ADD, READ),
    "audit_checkpoint": (READ, ADD, READ),
    "audit_sequencerfence": (READ, FENCE, READ),
    "audit_words": (READ, ADD, NONE),
    "audit_searchindex": (READ, ADD | {"UPDATE"}, NONE),
    "audit_segment": (READ, NONE, READ),
    "audit_witness": (ADD, NONE, READ),  # and UPDATE of three columns
    "audit_cosignature": (ADD, NONE, READ),
    "audit_witnessrefusal": (ADD, NONE, READ),
    "audit_refusalacknowledgement": (ADD, NONE, READ),
    "audit_dispute": (ADD, NONE, READ),
    "audit_disputeacknowledgement": (ADD, NONE, READ),
    "audit_personaldatum": (ADD | {"DELETE"}, NONE, NONE),
}
BREAK_GLASS = {
    # What people signed and guests told only grows; the rest changes and is kept.
    **dict.fromkeys(break_glass_triggers.TABLES, ADD),
    **{f"breakglass_{name}": ADD | {"UPDATE"} for name in ("ticket", "passkey", "review", "setproposal")},
    **{f"breakglass_{name}": ADD | {"UPDATE"} for name in ("mismatch", "receipthead")},
}
ELSEWHERE: tuple[set[str], ...] = (ALL, NONE, NONE)
TRIES = {
    "SELECT": "SELECT count(*) FROM {table}",
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET {column} = NULL WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table} CASCADE",
    "TRIGGER": "CREATE TRIGGER mine BEFORE UPDATE ON {table} "
    "FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "REFERENCES": "CREATE TEMPORARY TABLE mine (one bigint REFERENCES {table})",
    "disabling triggers": "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "altering": "ALTER TABLE {table} ADD COLUMN mine int",
    "dropping": "DROP TABLE {table} CASCADE",
}


@pytest.fixture(scope="module")
def passwords() -> dict[str, str]:
    return {role: secrets.token_hex(16) for role in (*ROLES, "portal_owner")}


@pytest.fixture(scope="module")
def database(django_db_setup: None, django_db_blocker: Any, passwords: dict[str, str]) -> Iterator[str]:
    """A copy of the tests' database, with the roles applied and able to log in."""
    with django_db_blocker.unblock():
        connection.close()
    with own_database(str(connection.settings_dict["NAME"])) as name:
        with connect(name) as session:
            # The migration's row, which a test's flush of the tables has taken away.
            session.execute(
                "INSERT INTO audit_sequencerfence (id, fence, low, trouble, trouble_words) VALUES (1, 0, 0, '', '') "
                "ON CONFLICT DO NOTHING"
            )
            session.execute((settings.BASE_DIR / "deploy/postgresql/roles.sql").read_text().encode())
            for role, password in passwords.items():
                session.execute(
                    sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
                )
        yield name


@pytest.fixture(scope="module")
def login(database: str, passwords: dict[str, str]) -> Iterator[dict[str, psycopg.Connection]]:
    sessions = {role: connect(database, user=role, password=given) for role, given in passwords.items()}
    yield sessions
    for session in sessions.values():
        session.close()


def tables(session: psycopg.Connection) -> dict[str, str]:
    """Each table of the portal, and its first column."""
    return dict(
        session.execute(
            "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum = 1 "
            "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        ).fetchall()
    )


def may(session: psycopg.Connection, statement: str, table: str, column: str) -> bool:
    """Try it; take it back. Only a refusal by rights counts as one: rules of the table come after them."""
    words = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
    try:
        with session.transaction(force_rollback=True):
            session.execute(sql.SQL(statement).format(**words))
    except psycopg.errors.InsufficientPrivilege as refusal:
        return "append-only" in str(refusal)
    except psycopg.errors.IntegrityError:
        return True
    return True


@needs_roles
@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_is_listed_and_no_more(login: dict[str, psycopg.Connection], role: str) -> None:
    """Every table of the portal, every verb, and what only an owner may."""
    everything = tables(login[role])
    assert set(RECORD) == {name for name in everything if name.startswith("audit_")}, (
        "list it here and in the file"
    )
    at = ROLES.index(role)
    wrong = [
        f"{verb} on {table}"
        for table, column in everything.items()
        for verb, statement in TRIES.items()
        if may(login[role], statement, table, column) != (verb in wanted(table)[at])
    ]
    assert not wrong


def wanted(table: str) -> tuple[set[str], ...]:
    if table in BREAK_GLASS:
        return (BREAK_GLASS[table], NONE, NONE)
    return (READ, NONE, NONE) if table == "django_migrations" else RECORD.get(table, ELSEWHERE)


ESCAPES = [
    "SET session_replication_role = replica",
    "SET ROLE portal_owner",
    "SET SESSION AUTHORIZATION postgres",
    "CREATE TABLE public.mine ()",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION audit_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TEMPORARY TABLE audit_entry ()",
    "CREATE SCHEMA mine",
    "CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION audit_entry_refuse()",
    "INSERT INTO audit_entry (id, at, action) VALUES (1, now(), 'forged')",
    "SELECT nextval(pg_get_serial_sequence('audit_entry', 'id'))",
    "SELECT setval(pg_get_serial_sequence('audit_entry', 'id'), 1)",
    "COPY audit_leaf FROM PROGRAM 'true'",
    "SELECT * FROM audit_entry FOR UPDATE",
    "LOCK TABLE audit_entry IN ACCESS EXCLUSIVE MODE",
    "ALTER ROLE portal_app SUPERUSER",
]


@needs_roles
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("statement", ESCAPES)
def test_there_is_no_way_around(login: dict[str, psycopg.Connection], role: str, statement: str) -> None:
    """Replication mode, other roles, functions, shadowing tables, sequences, locks."""
    refusals = (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue)
    with pytest.raises(refusals), login[role].transaction(force_rollback=True):
        login[role].execute(statement.encode())


@needs_roles
def test_the_application_writes_through_django(database: str, passwords: dict[str, str]) -> None:
    """A command that changes people and records it, run by the application's role."""
    said = manage(database, "portal_app", passwords, "demo_people")
    assert said.returncode == 0, said.stderr
    with connect(database) as session:
        (count,) = session.execute(
            "SELECT count(*) FROM audit_entry WHERE action = 'user.created'"
        ).fetchone() or (0,)
    assert count == 2


@needs_roles
def test_the_sequencer_works_as_its_role(database: str, passwords: dict[str, str]) -> None:
    """It sequences and signs what the application wrote; and the verifier, by a third role, finds it whole."""
    assert manage(database, "portal_app", passwords, "demo_people").returncode == 0
    said = manage(database, "portal_sequencer", passwords, "sequencer", "--once")
    assert said.returncode == 0, said.stderr
    assert "entries sequenced" in said.stdout
    said = manage(database, "portal_verifier", passwords, "audit_verify", "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    report = json.loads(said.stdout)
    assert report["whole"]
    assert report["leaves"] >= 2


@needs_roles
def test_the_application_locks_what_it_erases(login: dict[str, psycopg.Connection]) -> None:
    """PostgreSQL wants a right to update some column for that; the values are none of them."""
    login["portal_app"].execute("SELECT id FROM audit_personaldatum FOR UPDATE")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        login["portal_app"].execute("UPDATE audit_personaldatum SET value = ''")


@needs_roles
def test_the_owner_migrates_and_applies_the_file_again(database: str, passwords: dict[str, str]) -> None:
    """No superuser is needed for an upgrade."""
    for arguments in (["migrate", "-v0"], ["audit_roles", "--apply"], ["audit_roles"]):
        said = manage(database, "portal_owner", passwords, *arguments)
        assert said.returncode == 0, said.stderr


@needs_roles
def test_applying_the_file_is_an_entry(database: str, passwords: dict[str, str]) -> None:
    """In one transaction with the rights that it names; looking alone leaves none."""
    with connect(database) as session:
        session.execute("GRANT UPDATE ON audit_entry TO portal_app")
    assert manage(database, "portal_owner", passwords, "audit_roles").returncode == 1
    said = manage(database, "portal_owner", passwords, "audit_roles", "--apply")
    assert said.returncode == 0, said.stderr
    with connect(database) as session:
        events = session.execute(
            "SELECT event FROM audit_entry WHERE actor_id = 'audit_roles' AND event LIKE '%portal_app%'"
        ).fetchall()
    assert [json.loads(event)["data"] for (event,) in events] == [
        {"changed": 1, "rights": ["portal_app has UPDATE on audit_entry and must not"]}
    ]
    assert {json.loads(event)["action"] for (event,) in events} == {"command.ran"}


@needs_roles
def test_rights_stay_as_they_are_where_no_entry_can_be_written(
    database: str, passwords: dict[str, str]
) -> None:
    with connect(database) as session:
        session.execute("GRANT UPDATE ON audit_entry TO portal_app")
        session.execute("ALTER TABLE audit_entry ADD CONSTRAINT none_fits CHECK (id < 0) NOT VALID")
    try:
        assert manage(database, "portal_owner", passwords, "audit_roles", "--apply").returncode == 1
        assert "portal_app has UPDATE" in manage(database, "portal_owner", passwords, "audit_roles").stdout
    finally:
        with connect(database) as session:
            session.execute("ALTER TABLE audit_entry DROP CONSTRAINT none_fits")
            session.execute("REVOKE UPDATE ON audit_entry FROM portal_app")


@needs_roles
def test_the_application_cannot_apply_the_file(database: str, passwords: dict[str, str]) -> None:
    said = manage(database, "portal_app", passwords, "audit_roles", "--apply")
    assert said.returncode == 1
    assert "Connect as portal_owner" in said.stderr


@needs_roles
def test_what_a_later_migration_makes_is_closed(login: dict[str, psycopg.Connection]) -> None:
    """The application reads it; to write there, the file has to be run again."""
    login["portal_owner"].execute("CREATE TABLE audit_later (one int); CREATE TABLE tenants_later (one int)")
    try:
        for table in ("audit_later", "tenants_later"):
            allowed = {verb for verb, tried in TRIES.items() if may(login["portal_app"], tried, table, "one")}
            assert allowed == READ
    finally:
        login["portal_owner"].execute("DROP TABLE audit_later, tenants_later")


@needs_roles
def test_the_application_changes_a_witness_no_more_than_it_must(login: dict[str, psycopg.Connection]) -> None:
    for column in ("asked_at", "retired_at"):
        login["portal_app"].execute(f"UPDATE audit_witness SET {column} = now()".encode())
    login["portal_app"].execute("SELECT id FROM audit_witness FOR UPDATE")
    for column in ("name", "vkey", "url", "target", "tenant_id", "added_at"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login["portal_app"].execute(f"UPDATE audit_witness SET {column} = {column}".encode())


@needs_roles
def test_superusers_are_named(database: str, passwords: dict[str, str]) -> None:
    """No right binds them, and the file leaves them: whoever looks must see who they are."""
    with connect(database) as session:
        session.execute("CREATE ROLE hidden_above SUPERUSER")
        try:
            said = manage(database, "portal_owner", passwords, "audit_roles")
        finally:
            session.execute("DROP ROLE hidden_above")
    assert "hidden_above" in said.stdout


STRAYED = {
    "GRANT UPDATE ON audit_entry TO portal_app": "portal_app has UPDATE on audit_entry and must not",
    "GRANT UPDATE (event) ON audit_entry TO portal_app": "portal_app has UPDATE on audit_entry.event and must not",
    "GRANT TRUNCATE ON audit_leaf TO PUBLIC": "everybody has TRUNCATE on audit_leaf and must not",
    "GRANT DELETE ON audit_entry TO stray": "stray has DELETE on audit_entry and must not",
    "GRANT portal_owner TO portal_app": "portal_app has membership on the role portal_owner and must not",
    "GRANT portal_owner TO stray": "stray has membership on the role portal_owner and must not",
    "CREATE FUNCTION above() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'; GRANT EXECUTE ON FUNCTION above TO stray": "stray has EXECUTE on above() and must not",
    "CREATE SCHEMA side CREATE VIEW one AS SELECT 1; CREATE FUNCTION side.above() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'": "everybody has EXECUTE on side.above() and must not",
    "ALTER TABLE audit_leaf OWNER TO portal_app": "portal_app has ownership on audit_leaf and must not",
    "ALTER FUNCTION audit_entry_refuse OWNER TO portal_app": "portal_app has ownership on audit_entry_refuse() and must not",
    "ALTER ROLE portal_app SUPERUSER": "portal_app has SUPERUSER on the cluster and must not",
    "REVOKE SELECT ON audit_leaf FROM portal_verifier": "portal_verifier lacks SELECT on audit_leaf",
    "REVOKE CONNECT ON DATABASE {} FROM portal_app": "portal_app lacks CONNECT on the database",
}


@needs_roles
@pytest.mark.parametrize("statement", STRAYED)
def test_what_strays_is_told_and_mended(statement: str) -> None:
    """Rights that somebody gave or took by hand."""
    apply(connection)
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE stray")
        cursor.execute(statement.format(connection.settings_dict["NAME"]))
    assert STRAYED[statement] in differences(connection)
    apply(connection)
    assert differences(connection) == []


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has roles")
def test_sqlite_says_that_it_has_none() -> None:
    with pytest.raises(RolesError, match="Only PostgreSQL"):
        differences(connection)


def manage(
    database: str, role: str, passwords: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "DATABASE_URL": url(database, user=role, password=passwords[role]),
            "PORTAL_STATE_DIR": str(Path(settings.STATE_DIR) / "test" / database),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
