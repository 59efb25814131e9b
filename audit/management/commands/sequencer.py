import signal
from argparse import ArgumentParser
from threading import Event
from types import FrameType

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from audit.sequencer import BusyError, TroubleError, sequence_once
from audit.sequencer.loop import run


class Command(BaseCommand):
    help = "Give the record's entries their place in the tree, and sign its head. Runs until SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="end when no entry waits any more")

    def handle(self, *args: object, **options: object) -> None:
        if not settings.LOG_KEY:
            raise CommandError(
                "This process has no PORTAL_LOG_KEY: run it with `deploy/run-as sequencer --`."
            )
        if options["once"]:
            self._once()
            return
        stop = Event()

        def end(_number: int, _frame: FrameType | None) -> None:
            stop.set()

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        run(stop)

    def _once(self) -> None:
        try:
            added = sequence_once()
        except (BusyError, TroubleError) as error:
            raise CommandError(f"Nothing was signed: {error}") from error
        self.stdout.write(f"{added} entries sequenced.")
