import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from provisioning import machine
from provisioning.models import Operation


class Command(BaseCommand):
    help = "Carry out what is due without Celery, until nothing is active: for repair when Redis is lost."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=float, default=600)

    def handle(self, *args: Any, **given: Any) -> None:
        deadline = time.monotonic() + given["seconds"]
        while time.monotonic() < deadline and Operation.objects.filter(state__in=Operation.ACTIVE).exists():
            for operation_id in machine.due():
                machine.run(operation_id)
            time.sleep(0.2)
