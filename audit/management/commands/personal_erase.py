from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_date

from audit.context import command
from audit.erasure import personal_erase
from audit.personal import KINDS


class Command(BaseCommand):
    help = (
        "Erase what the record's leaves commit to: of one subject, or of one kind, for good. "
        "No leaf changes, and the log still verifies. docs/audit.md says what stays."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--subject", default="", help="user:NUMBER, tenant:UUID or anonymous")
        parser.add_argument("--kind", default="", choices=["", *KINDS], help="; ".join(KINDS))
        parser.add_argument("--before", default="", metavar="YYYY-MM-DD", help="only older than this, in UTC")
        parser.add_argument("--reason", required=True, help="recorded as a commitment, erasable itself")

    def handle(self, *args: Any, **given: Any) -> None:
        try:
            erased = personal_erase(
                actor=command("personal_erase"),
                reason=given["reason"],
                subject=given["subject"],
                kind=given["kind"],
                before=self._time(given["before"]),
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(f"{erased} erased. Backups made before now still hold them.")

    def _time(self, given: str) -> datetime | None:
        if not given:
            return None
        try:
            date = parse_date(given)
        except ValueError:
            date = None
        if date is None:
            raise CommandError(f"--before: {given} is not a date. Give one such as 2026-01-31.")
        return datetime(date.year, date.month, date.day, tzinfo=UTC)
