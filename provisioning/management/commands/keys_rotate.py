from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.context import command
from provisioning.fleet_keys import name_of
from provisioning.models import FleetKey
from provisioning.rotation import CLIENTS, RotationRefused, key_announce, key_finish, key_switch

ACTOR = command("keys_rotate")


class Command(BaseCommand):
    help = "Change a key of the fleet: announce the next, --switch to it, --finish with the one before."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("use", choices=FleetKey.Use.values)
        move = parser.add_mutually_exclusive_group()
        move.add_argument("--switch", action="store_true", help="use the announced key from now on")
        move.add_argument("--finish", action="store_true", help="believe the keys before no longer")

    def handle(self, *args: Any, **given: Any) -> None:
        use = given["use"]
        try:
            if given["switch"]:
                self._say("current", key_switch(actor=ACTOR, use=use))
                self._then(use, f"When `keys_status` shows no guest that waits: keys_rotate {use} --finish")
            elif given["finish"]:
                for key in key_finish(actor=ACTOR, use=use):
                    self._say("retired", key)
                self._then(use, "Done.")
            else:
                self._say("announced", key_announce(actor=ACTOR, use=use))
                wait = "" if use in CLIENTS else "When `keys_status` shows no guest that waits: "
                self.stdout.write(f"{wait}keys_rotate {use} --switch")
        except RotationRefused as error:
            raise CommandError(str(error)) from None

    def _say(self, what: str, key: FleetKey) -> None:
        self.stdout.write(f"{key.use}: {what} {name_of(key)}")

    def _then(self, use: str, words: str) -> None:
        if use in {FleetKey.Use.CA, FleetKey.Use.PROXY}:
            self.stdout.write("Now run `proxy_identity` and reload nginx (`make up` does both).")
        self.stdout.write(words)
