import platform
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.context import command
from provisioning.driver import DriverError, Engine
from provisioning.driver.probe import ProbeResult, probe_host
from provisioning.driver.simulated import TEST_URI
from provisioning.models import Host
from provisioning.seals import is_sealed
from provisioning.services import host_register


class Command(BaseCommand):
    help = "Probe a libvirt host for the best engine that really works, and register it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--local", action="store_true", help="this machine (the default)")
        parser.add_argument("--uri", default=settings.LIBVIRT_URI)
        parser.add_argument("--name", default=platform.node() or "local")
        parser.add_argument("--pool", default=str(settings.POOL_DIR))
        parser.add_argument(
            "--egress",
            help="the folder of the host's egress keeper, empty: its guests have no way out; "
            "left out: as registered before, else as PORTAL_EGRESS_DIR says",
        )
        parser.add_argument("--again", action="store_true", help="probe even if the host is registered")

    def handle(self, *args: Any, **given: Any) -> None:
        known = Host.objects.filter(name=given["name"]).first()
        if given["egress"] is None:
            # The settings know this machine's folder only, and for it alone they may say that there is none.
            local = given["uri"] == settings.LIBVIRT_URI
            given["egress"] = known.egress_path if known is not None and not local else settings.EGRESS_DIR
        as_told = known is not None and is_sealed(known) and known.egress_path == given["egress"]
        if known is not None and as_told and not given["again"]:
            self._say(known, "registered before")
            return
        try:
            found = probe_host(given["uri"], given["pool"], settings.FLEET_ID)
        except DriverError as error:
            raise CommandError(error.message) from None
        try:
            host = self._register(given, found)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self._say(host, "registered")
        for line in host.evidence:
            self.stdout.write(f"  {line}")

    def _register(self, given: dict[str, Any], found: ProbeResult) -> Host:
        return host_register(
            actor=command("host_register"),
            name=given["name"],
            uri=TEST_URI if found.engine is Engine.TEST else given["uri"],
            pool_path=given["pool"],
            egress_path=given["egress"],
            probe={
                "engine": found.engine.value,
                "evidence": list(found.evidence),
                "capabilities": sorted(found.capabilities),
                "vcpus": found.capacity.vcpus,
                "memory_mib": found.capacity.memory_mib,
                "disk_gib": found.capacity.disk_gib,
            },
        )

    def _say(self, host: Host, what: str) -> None:
        self.stdout.write(f"host {host.name}: {what}, engine: {host.engine} ({host.get_engine_display()})")
