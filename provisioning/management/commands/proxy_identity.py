import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from provisioning.fleet_keys import authorities, fleet_key, private_pem
from provisioning.models import FleetKey


class Command(BaseCommand):
    help = "Write nginx's client certificate with its key, and the CAs by which it knows guests."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path)

    def handle(self, *args: Any, **given: Any) -> None:
        folder: Path = given["directory"]
        files = {
            "client.pem": private_pem(fleet_key(FleetKey.Use.PROXY)),
            "ca.pem": authorities().encode(),
        }
        try:
            changed = [name for name, content in files.items() if _put(folder / name, content)]
        except OSError as error:
            raise CommandError(f"Cannot write to {folder}: {error.strerror}.") from None
        if given["verbosity"]:
            self.stdout.write(f"written: {', '.join(changed)}; reload nginx" if changed else "as before")


def _put(path: Path, content: bytes) -> bool:
    if path.is_file() and path.read_bytes() == content:
        return False
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:
        sink.write(content)
    fresh.replace(path)
    return True
