import base64
from argparse import ArgumentParser

from django.conf import settings
from django.core.management.base import BaseCommand

from protocol.notes import new_key


class Command(BaseCommand):
    help = "Make a key pair for the audit log. Writes nothing: put the two lines into the environment files."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--origin", help="the log's name; the default is this portal's")

    def handle(self, *args: object, **options: object) -> None:
        seed, vkey = new_key(str(options["origin"] or settings.LOG_ORIGIN))
        self.stderr.write("For the sequencer's environment alone. Whoever has it can forge the log's head:")
        self.stdout.write(f"PORTAL_LOG_KEY={base64.b64encode(seed).decode()}")
        self.stderr.write("For every role's environment:")
        self.stdout.write(f"PORTAL_LOG_VKEY={vkey}")
