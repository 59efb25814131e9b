from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit import log, proofs
from audit.alerts import everywhere
from audit.models import Witness
from audit.witnesses import active, held_by


class Command(BaseCommand):
    help = "Tell how the record is: its tree, its lag, who has signed what. Exit 1 if anything is wrong."

    def handle(self, *args: Any, **given: Any) -> None:
        newest, lag = proofs.latest(), proofs.lag()
        size = newest.size if newest else 0
        self.stdout.write(f"log        {log.vkey().name}")
        self.stdout.write(
            f"checkpoint {size} entries, {newest.at:%Y-%m-%d %H:%M:%S} UTC" if newest else "checkpoint none"
        )
        self.stdout.write(f"lag        {lag.entries} entries, the oldest {lag.seconds:.0f} s old")
        for witness in active():
            self.stdout.write(f"witness    {witness.name}: {_told(witness, size)}")
        found = everywhere()
        for alert in found:
            about = f" ({alert.about})" if alert.about else ""
            self.stdout.write(f"{alert.severity.upper():10} {alert.code}: {alert.words}{about}")
        if found:
            raise CommandError(f"{len(found)} things are wrong with the record.")


def _told(witness: Witness, size: int) -> str:
    held = held_by(witness)
    behind = f"{held} entries, {max(0, size - held)} behind" if held else "nothing signed yet"
    return f"{behind}; {witness.problem}" if witness.problem else behind
