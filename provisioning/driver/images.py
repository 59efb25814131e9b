"""Checking a guest image's files."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from provisioning.driver.types import ImageCorrupt, ImageMissing, ImageSpec, Unsupported

FILES = ("vmlinuz", "initrd.img", "root.img")


def is_local(uri: str) -> bool:
    """Whether a libvirt URI means this machine."""
    return urlsplit(uri).hostname in {None, "localhost"}


def verify(uri: str, image: ImageSpec) -> None:
    """Hash the three files, some hundred MB: about half a second.

    Raises:
        Unsupported: ``uri`` is another machine, whose files cannot be read from here.
        ImageMissing, ImageCorrupt: as they say.
    """
    if not is_local(uri):
        raise Unsupported("The guest image can be checked only on its own host. Run the worker there.")
    for name in FILES:
        _verify_file(Path(image.directory) / name, image.sha256.get(name), image.version)


def _verify_file(path: Path, expected: str | None, version: str) -> None:
    if expected is None:
        raise ImageCorrupt(
            f"No hash is registered for {path.name} of image {version}. Register the image anew."
        )
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ImageMissing(
            f"{path} of image {version} is missing. Build the image or copy it there."
        ) from None
    except OSError as error:
        raise ImageMissing(f"{path} of image {version} cannot be read: {error.strerror}. Allow it.") from None
    if actual != expected:
        raise ImageCorrupt(
            f"{path} of image {version} is not what was registered. Replace it by the original."
        )
