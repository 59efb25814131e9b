from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from audit.archives import NothingToArchiveError, archive, finish, unfinished
from audit.context import command
from protocol.tiles import TileError
from protocol.verify.outcome import VerificationError


class Command(BaseCommand):
    help = "Move the bodies of old entries into an archive that proves itself. Without it, all stay for ever."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--before", type=datetime.fromisoformat, required=True, help="a date, in UTC")
        parser.add_argument("--to", type=Path, required=True, help="the folder to make the archive in")

    def handle(self, *args: object, before: datetime, to: Path, **options: object) -> None:
        for segment in unfinished():
            self.stdout.write(f"{finish(segment)} bodies of {segment.folder} were still here; removed.")
        if not to.is_dir():
            raise CommandError("--to: give a folder that is there.")
        try:
            made = archive(
                actor=command("audit_archive"),
                before=before if before.tzinfo else before.replace(tzinfo=UTC),
                folder=to,
            )
        except NothingToArchiveError as error:
            self.stdout.write(str(error))
        except (VerificationError, TileError) as error:
            raise CommandError(f"Nothing was removed: {error}") from error
        except OSError as error:
            raise CommandError(f"Nothing was removed. --to: {error.strerror}.") from error
        else:
            self.stdout.write(f"{made} stand in {made.folder}. Keep it: the log holds only their hashes now.")
            self.stdout.write(
                f"Check it: python -m protocol.verify tiles {made.folder} "
                f"--first {made.first} --end {made.end} --key PORTAL_LOG_VKEY"
            )
