from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection

from audit.roles import RolesError, apply, differences, superusers

INSUFFICIENT_PRIVILEGE = "42501"


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
                apply(connection)
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
