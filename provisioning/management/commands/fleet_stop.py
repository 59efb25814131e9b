import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from audit.context import command
from provisioning import machine
from provisioning.models import Operation, Runtime
from provisioning.services import OperationRefused, operation_request


class Command(BaseCommand):
    help = "Stop every ready runtime, without Celery. What `make down` calls after the workers are gone."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=float, default=180)

    def handle(self, *args: Any, **given: Any) -> None:
        for runtime in Runtime.objects.filter(phase=Runtime.Phase.READY):
            try:
                operation_request(
                    actor=command("fleet_stop"), runtime_id=runtime.pk, kind=Operation.Kind.STOP
                )
            except OperationRefused as error:
                self.stderr.write(f"{runtime}: {'; '.join(error.messages)}")
        stops = Operation.objects.filter(kind=Operation.Kind.STOP, state__in=Operation.ACTIVE)
        deadline = time.monotonic() + given["seconds"]
        while stops.exists() and time.monotonic() < deadline:
            for operation_id in stops.values_list("pk", flat=True):
                machine.run(operation_id)
            time.sleep(0.2)
