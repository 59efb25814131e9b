"""The database's own refusals around tickets, per engine.

``TABLES`` are written once, as the record's are (:mod:`audit.triggers`). A ticket goes only where the table
of transitions leads, and is kept once it is over. An approval is taken only by a key of the ticket's set, of
somebody else than the requester, for the revision that waits. A passkey stays its holder's. So neither a
shell nor a page that goes round the services makes an approval that counts here; no guest would believe one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from audit import triggers as written_once

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

_STEPS = (
    "OLD.state = NEW.state AND OLD.state IN ('pending', 'approved', 'active')",
    "OLD.state = 'pending' AND NEW.state IN ('approved', 'rejected', 'withdrawn', 'timed_out', 'revoked')",
    "OLD.state = 'approved' AND NEW.state IN ('pending', 'active', 'withdrawn', 'timed_out', 'revoked')",
    "OLD.state = 'active' AND NEW.state IN ('ended', 'expired', 'revoked')",
)
"""As :data:`breakglass.transitions.TABLE` has them, in SQL; a test compares the two."""

_FIXED = ("id", "tenant_id", "runtime_id", "requester_id", "kind", "asked_at", "wait_until")
_ASKED = ("passkey_id", "approvers_set_id", "needed", "seconds")
_COURSE = (
    *("state", "revision", "needs_owner", "approved_at", "started_at", "access_until", "ended_at"),
    *("ended_by_id", "ending", "words"),
)
_OVER = "OLD.state NOT IN ('pending', 'approved', 'active')"


def _same(*columns: str) -> str:
    return " AND ".join(f"NEW.{name} IS NOT DISTINCT FROM OLD.{name}" for name in columns)


_TICKET_CHANGE = (
    f"({_same(*_FIXED)}) AND (CASE WHEN {_OVER} THEN {_same(*_ASKED, *_COURSE)} "
    f"ELSE ({' OR '.join(f'({one})' for one in _STEPS)}) "
    # Another revision starts again: none of its approvals is there yet.
    "AND ((NEW.revision = OLD.revision + 1 AND NEW.state = 'pending' AND OLD.state <> 'active') "
    f"OR (NEW.revision = OLD.revision AND {_same(*_ASKED)} "
    "AND NOT (OLD.state = 'approved' AND NEW.state = 'pending'))) "
    f"AND (OLD.state <> 'active' OR ({_same('approved_at', 'started_at', 'access_until')})) END)"
)

_TICKET_START: Mapping[str, str] = {
    "postgresql": "NEW.wait_until <= NEW.asked_at + interval '4 hours' "
    "AND NEW.asked_at BETWEEN clock_timestamp() - interval '15 minutes' "
    "AND clock_timestamp() + interval '2 minutes'",
    "sqlite": "(julianday(NEW.wait_until) - julianday(NEW.asked_at)) * 86400 <= 14400.01 "
    "AND (julianday('now') - julianday(NEW.asked_at)) * 1440 BETWEEN -2 AND 15",
}

_TICKET_INSERT: Mapping[str, str] = {
    engine: "NEW.state = 'pending' AND NEW.revision = 1 AND EXISTS (SELECT 1 FROM breakglass_passkey k "  # noqa: S608 - words of ours
    "WHERE k.id = NEW.passkey_id AND k.user_id = NEW.requester_id AND k.retired_at IS NULL "
    "AND k.cloned_at IS NULL) AND NOT EXISTS (SELECT 1 FROM breakglass_review r JOIN breakglass_ticket t "
    "ON t.id = r.ticket_id WHERE r.closed_at IS NULL AND t.kind = 'emergency' "
    f"AND t.requester_id = NEW.requester_id) AND {times}"
    for engine, times in _TICKET_START.items()
}

_IN_THE_SET: Mapping[str, str] = {
    "postgresql": "EXISTS (SELECT 1 FROM jsonb_array_elements(s.document->'approvers') e "
    "WHERE e->>'public_key' = k.public_key AND e->>'person' = NEW.person)",
    "sqlite": "EXISTS (SELECT 1 FROM json_each(s.document, '$.approvers') e "
    "WHERE json_extract(e.value, '$.public_key') = k.public_key "
    "AND json_extract(e.value, '$.person') = NEW.person)",
}

_VERDICT: Mapping[str, str] = {
    engine: "EXISTS (SELECT 1 FROM breakglass_ticket t JOIN breakglass_passkey k "  # noqa: S608 - words of ours
    "ON k.id = NEW.passkey_id JOIN breakglass_approversetversion s ON s.id = t.approvers_set_id "
    "WHERE t.id = NEW.ticket_id AND t.revision = NEW.revision AND t.state = 'pending' "
    "AND k.user_id <> t.requester_id AND NEW.person = 'user:' || k.user_id "
    "AND NEW.person <> 'user:' || t.requester_id AND k.retired_at IS NULL AND k.cloned_at IS NULL "
    f"AND {in_the_set})"
    for engine, in_the_set in _IN_THE_SET.items()
}

_PASSKEY_CHANGE = (
    f"({_same('id', 'user_id', 'public_key', 'credential_id', 'fingerprint', 'registered_at')}) "
    "AND NEW.counter >= OLD.counter "
    "AND (OLD.retired_at IS NULL OR NEW.retired_at IS NOT DISTINCT FROM OLD.retired_at) "
    "AND (OLD.cloned_at IS NULL OR NEW.cloned_at IS NOT DISTINCT FROM OLD.cloned_at)"
)

_BOTH = ("postgresql", "sqlite")
_NEVER = dict.fromkeys(_BOTH, "1 = 0")

RULES: tuple[tuple[str, str, Mapping[str, str], str], ...] = (
    ("breakglass_ticket", "UPDATE", dict.fromkeys(_BOTH, _TICKET_CHANGE), "a ticket takes no such step"),
    ("breakglass_ticket", "INSERT", _TICKET_INSERT, "a ticket begins as one that waits, and in its time"),
    ("breakglass_ticket", "DELETE", _NEVER, "tickets are kept"),
    ("breakglass_approval", "INSERT", _VERDICT, "this key may not approve this revision"),
    ("breakglass_rejection", "INSERT", _VERDICT, "this key may not reject this revision"),
    ("breakglass_passkey", "UPDATE", dict.fromkeys(_BOTH, _PASSKEY_CHANGE), "a passkey stays its holder's"),
    ("breakglass_passkey", "DELETE", _NEVER, "passkeys are retired, never removed"),
    ("breakglass_review", "DELETE", _NEVER, "reviews are kept"),
)
"""Table, deed, what must hold by engine (an SQL condition over OLD and NEW), what is said if it does not."""


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
