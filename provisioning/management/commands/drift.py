from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.context import command
from provisioning import machine
from provisioning.drift.check import Report, check
from provisioning.drift.mend import mend
from provisioning.models import Host, Runtime


class Command(BaseCommand):
    help = (
        "Compare each host with what it was told; set aside what is gravely wrong. "
        "Exit 1 if anything differs, or a host does not answer."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fix", action="store_true", help="put right what is safe to put right")

    def handle(self, *args: Any, **given: Any) -> None:
        left = 0
        for host in Host.objects.all():
            report = self._checked(host)
            if given["fix"] and not report.problem:
                for line in mend(report, command("drift")):
                    self.stdout.write(f"fix: {line}")
                report = self._checked(host)
            left += self._show(report)
        if left:
            raise CommandError(f"{left} findings.")
        self.stdout.write("no findings")

    def _checked(self, host: Host) -> Report:
        report = check(host)
        for operation_id in report.operations:
            machine.run(operation_id)
        return report

    def _show(self, report: Report) -> int:
        if report.problem:
            self.stdout.write(f"{report.host}  unknown  {report.problem}")
            return 1
        lines = [(str(report.host), each) for each in report.of_host]
        phases = dict(Runtime.objects.filter(pk__in=report.of_runtimes).values_list("pk", "phase"))
        for runtime_id, found in report.of_runtimes.items():
            lines += [(f"rt-{runtime_id} ({phases[runtime_id]})", each) for each in found]
        for subject, each in lines:
            self.stdout.write(f"{each.severity.value:10}  {subject}: {each.words} {each.detail}".rstrip())
        return len(lines)
