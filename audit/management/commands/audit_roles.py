from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection, transaction

from audit.context import command
from audit.models import Entry
from audit.roles import RolesError, apply, differences, superusers
from audit.services import record

INSUFFICIENT_PRIVILEGE = "42501"
RIGHTS_NAMED = 100
"""The most changed rights that the entry names; it says how many there were."""


class Command(BaseCommand):
    help = (
        "Compare the database's roles and rights with deploy/postgresql/roles.sql; exit 1 if they differ. "
        "With --apply, make them so. PostgreSQL only; connect as portal_owner, the first time as a superuser."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--apply", action="store_true", help="make them so")

    def handle(self, *args: Any, **given: Any) -> None:
        try:
            found = differences(connection)
            if given["apply"]:
                self._apply(found)
        except RolesError as error:
            raise CommandError(str(error)) from None
        except DatabaseError as error:
            said = str(error).partition("\n")[0]
            if getattr(error.__cause__, "sqlstate", "") != INSUFFICIENT_PRIVILEGE:
                raise
            raise CommandError(f"{said}. Connect as portal_owner; the first time as a superuser.") from None
        for line in found:
            self.stdout.write(line)
        if found and not given["apply"]:
            raise CommandError(f"{len(found)} rights differ. `manage.py audit_roles --apply` mends that.")
        self.stdout.write(f"Superusers, whom nothing here binds: {', '.join(superusers(connection))}.")
        self.stdout.write("Roles and rights are as deploy/postgresql/roles.sql says.")

    def _apply(self, found: list[str]) -> None:
        """The rights and the entry that tells of them, or neither: one transaction."""
        with transaction.atomic():
            apply(connection)
            if Entry._meta.db_table not in connection.introspection.table_names():
                return  # before the first `migrate` there is no record, and nothing to have rights on
            record(
                action="command.ran",
                actor=command("audit_roles"),
                target=("command", "audit_roles"),
                data={"changed": len(found), "rights": found[:RIGHTS_NAMED]},
            )
