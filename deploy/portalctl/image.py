"""The guest image: built when the version that the sources call for is not there."""

import os

from deploy.portalctl.commands import output, streamed
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import Stop, progress

_STAGE = "guest image"


def ensure(places: Places) -> str:
    """Build the image if it is missing or stale.

    Answers its version, the name of its directory in `images/`.
    """
    builder = [str(places.python), "-m", "guest.image.build"]
    version = output([*builder, "--print-version"], cwd=places.checkout).split()[-1]
    if built(places, version):
        progress(_STAGE, f"{version} is current")
        return version
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
            todo="read the lines above; `make image` tries again. it needs package sources",
        )
    return version


def built(places: Places, version: str) -> bool:
    """Whether the image is there.

    The builder writes the manifest last and moves the whole directory into place.
    """
    return (places.images / version / "manifest.json").exists()
