"""Small files that must be whole or absent, whatever moment the machine stops at."""

import os
from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Create ``folder`` with mode 0700, parents included, or tighten one that exists."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, mode 0600; on return it survives a power cut."""
    # One fixed name for the unfinished file: what a crash leaves behind, the next write overwrites.
    unfinished = path.with_name(f".{path.name}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    _sync_folder(path.parent)


def read_optional(path: Path) -> bytes | None:
    """The content of ``path``, or None if there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
