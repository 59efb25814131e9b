import json
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.context import command
from provisioning.models import GuestImage
from provisioning.seals import is_sealed
from provisioning.services import image_register


class Command(BaseCommand):
    help = "Register a guest image from the directory that the build made."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("directory", type=Path)

    def handle(self, *args: Any, **given: Any) -> None:
        directory: Path = given["directory"].resolve()
        try:
            manifest = json.loads((directory / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise CommandError(
                f"No readable manifest.json in {directory}: {error}. Run `make image`."
            ) from None
        version, sha256 = manifest["version"], manifest["sha256"]
        check = _check_of(directory)
        known = GuestImage.objects.filter(
            version=version, sha256=sha256, directory=str(directory), retired=False, checked=True
        ).first()
        if known is not None and is_sealed(known):
            self.stdout.write(f"image {version}: registered before")
            return
        try:
            image = image_register(
                actor=command("image_register"),
                version=version,
                directory=str(directory),
                sha256=sha256,
                cmdline=manifest.get("cmdline", ""),
                size_bytes=sum(manifest["size"].values()),
                check=check,
            )
        except ValidationError as refused:
            raise CommandError(" ".join(refused.messages)) from None
        said = "registered" if image.checked else "registered unchecked: every host here is simulated"
        self.stdout.write(f"image {version}: {said}")


def _check_of(directory: Path) -> dict[str, object]:
    """What the image's check left; nothing if there was none."""
    try:
        document = json.loads((directory / "checked.json").read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
