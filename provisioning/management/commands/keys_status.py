from typing import Any

from django.core.management.base import BaseCommand

from provisioning.fleet_keys import believed, name_of
from provisioning.models import FleetKey
from provisioning.trust import unconfirmed


class Command(BaseCommand):
    help = "The fleet's keys, and the ready guests that have not confirmed whom to believe."

    def handle(self, *args: Any, **given: Any) -> None:
        for use in FleetKey.Use.values:
            for key in believed(use):
                ends = key.expires_at.strftime("%Y-%m-%d") if key.expires_at else "-"
                made = key.created_at.strftime("%Y-%m-%d")
                self.stdout.write(f"{use:8}{key.state:12}made {made}  ends {ends:12}{name_of(key)}")
        waiting = [str(runtime) for runtime in unconfirmed()]
        self.stdout.write(f"guests that have not confirmed: {', '.join(waiting) or 'none'}")
