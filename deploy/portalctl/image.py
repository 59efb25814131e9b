"""The guest image: built when the version that the sources call for is not there, and checked by use."""

import json
import os
from pathlib import Path

from deploy.portalctl.commands import output, streamed
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import Stop, progress
from guest.image.check import NOT_CHECKED, is_good

_STAGE = "guest image"


def ensure(places: Places) -> str:
    """Build the image if it is missing or stale, and check it unless it has passed.

    Answers its version, the name of its directory in `images/`.
    """
    builder = [str(places.python), "-m", "guest.image.build"]
    version = output([*builder, "--print-version"], cwd=places.checkout).split()[-1]
    if not built(places, version):
        _build(places, builder, version)
    _check(places, version)
    return version


def _build(places: Places, builder: list[str], version: str) -> None:
    progress(_STAGE, f"building {version} (a few minutes)")
    code, _ = streamed(
        [*builder, "--out", str(places.images)],
        cwd=places.checkout,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        dated=True,
    )
    if code != 0 or not built(places, version):
        raise Stop(
            "the guest image could not be built",
            todo="read the lines above; `make image` tries again. it needs package sources, PyPI and npm",
        )


def _check(places: Places, version: str) -> None:
    """One turn of an agent in a guest of its own. Where no machine runs at all, registration decides."""
    directory = places.images / version
    if passed(directory):
        progress(_STAGE, f"{version} is current and has passed its check")
        return
    progress(_STAGE, f"checking {version} with an agent's turn (1 min with KVM, 4 to 8 without)")
    code, _ = streamed(
        [str(places.python), "-m", "guest.image.check", str(directory)], cwd=places.checkout, dated=True
    )
    if code == NOT_CHECKED:
        progress(
            _STAGE, "NOTE: no machine runs here, so the image is not checked; only simulated hosts take it"
        )
    elif code != 0:
        raise Stop(
            "the guest image did not pass its check", todo="read the reason above, then `make image` again"
        )


def passed(directory: Path) -> bool:
    """Whether the check was passed by just the files that the manifest names."""
    try:
        return is_good(directory, json.loads((directory / "manifest.json").read_text())["sha256"])
    except (OSError, ValueError, KeyError):
        return False


def built(places: Places, version: str) -> bool:
    """Whether the image is there.

    The builder writes the manifest last and moves the whole directory into place.
    """
    return (places.images / version / "manifest.json").exists()
