from argparse import ArgumentParser
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from audit import proofs
from audit.context import command
from audit.services import record
from audit.tree_files import export_tree
from protocol.tiles import TileError


class Command(BaseCommand):
    help = "Write the whole log as C2SP tiles: checkpoint, tile/…, tile/entries/…. Again: only what is new."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR")

    def handle(self, *args: object, folder: Path, **options: object) -> None:
        checkpoint = proofs.latest()
        if checkpoint is None:
            raise CommandError("There is no checkpoint yet. Start the sequencer.")
        with transaction.atomic():
            record(
                action="record.exported",
                actor=command("audit_export_tiles"),
                target=("checkpoint", checkpoint.size),
                data={"form": "tiles"},
            )
        try:
            written = export_tree(folder, checkpoint)
        except OSError as error:
            raise CommandError(f"DIR: {error.strerror}.") from error
        except TileError as error:
            raise CommandError(f"The export is not complete: {error}.") from error
        self.stdout.write(f"{written} files written, of a tree of {checkpoint.size} entries.")
