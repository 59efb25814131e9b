from typing import Any

from django.core.management.base import BaseCommand, CommandError

from provisioning.fleet import audit_fleet


class Command(BaseCommand):
    help = "Compare the database with every host, in both directions. Exit 1 if anything differs."

    def handle(self, *args: Any, **given: Any) -> None:
        findings = audit_fleet()
        for finding in findings:
            self.stdout.write(f"{finding.host}  {finding.kind}  {finding.subject}: {finding.problem}")
        if findings:
            raise CommandError(f"{len(findings)} findings.")
        self.stdout.write("no findings")
