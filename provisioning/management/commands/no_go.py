from typing import Any

from django.core.management.base import BaseCommand, CommandError

from provisioning.no_go import examine


class Command(BaseCommand):
    help = "Look at the live fleet for every condition that forbids new guests. Exit 1 if one holds."

    def handle(self, *args: Any, **given: Any) -> None:
        verdicts = examine()
        for verdict in verdicts:
            self.stdout.write(f"{'pass' if verdict.passed else 'FAIL'}  {verdict.name:14} {verdict.evidence}")
        failed = [verdict.name for verdict in verdicts if not verdict.passed]
        if failed:
            raise CommandError(f"No go: {', '.join(failed)}.")
