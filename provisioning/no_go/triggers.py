"""The database's own refusals: that they are there, and that they refuse."""

from django.db import DatabaseError, connection, transaction

from audit.models import Entry
from audit.trigger_check import trigger_problems
from provisioning.no_go.verdicts import Answer, all_of

_SIGNED = [
    f"tenants_{table}_no_{verb}"
    for table in ("keyringversion", "consentversion")
    for verb in ("update", "delete")
]
_KEYS = ["tenants_tenantkey_no_return", "tenants_tenantkey_no_delete"]
TRIGGERS = [*_SIGNED, *_KEYS]
_PRESENT = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    # A: fires also where replication has switched triggers off.
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'A'",
}


def refuse() -> Answer:
    """Whether every trigger is there, and an entry of the record really cannot be changed."""
    with connection.cursor() as cursor:
        cursor.execute(_PRESENT[connection.vendor])
        present = {row[0] for row in cursor.fetchall()}
    entry = Entry.objects.values_list("pk", flat=True).first()
    # First, for the list of names after it may be longer than what is shown.
    problems = ["an entry of the record could be changed"] if entry is not None and _changes(entry) else []
    problems += [f"the trigger {name} is missing" for name in TRIGGERS if name not in present]
    problems += trigger_problems(connection)
    return all_of(problems, "all triggers are there, and a change was refused")


def _changes(entry: int) -> bool:
    """Try it, and take it back whatever comes of it."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE audit_entry SET action = 'changed' WHERE id = %s", [entry])
            transaction.set_rollback(True)
    except DatabaseError:
        return False
    return True
