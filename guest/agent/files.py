"""Small files that must be whole or absent, whatever moment the machine stops at."""

import os
from pathlib import Path

_CHUNK = 64 * 1024


class FileDamaged(Exception):
    """A file of the agent's own is damaged or missing.

    The agent does not start: what a fresh one in its place forgets, somebody could make use of.
    """


def make_private_folder(folder: Path) -> None:
    """Create ``folder`` with mode 0700, parents included, or tighten one that exists."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, mode 0600; on return it survives a power cut."""
    unfinished = _unfinished(path)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        _write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.replace(path)
    sync_folder(path.parent)


def write_erasing(path: Path, content: bytes) -> None:
    """As :func:`write_atomically`, and what ``path`` held before is overwritten.

    A stop in between leaves the rest to the next call, or to :func:`erase_leftovers`.
    """
    erase_leftovers(path)
    if path.exists():
        # A second name, by which the old content is still found once the first one leads to the new.
        os.link(path, _replaced(path))
    write_atomically(path, content)
    erase_leftovers(path)


def erase_leftovers(path: Path) -> None:
    """Overwrite and remove what an interrupted write of ``path`` left beside it; ``path`` itself stays."""
    erase(_unfinished(path))
    replaced = _replaced(path)
    if replaced.exists() and replaced.samefile(path):
        replaced.unlink()  # It was not replaced yet: overwriting it would overwrite what is in force.
    else:
        erase(replaced)


def erase(path: Path) -> None:
    """Overwrite ``path`` with zeros, and only then remove it; nothing if there is no such file.

    ext4 as the data volume has it, and the qcow2 file below, write these zeros where the old bytes were. What
    may still hold those: a copy or snapshot of the volume made before, and worn cells of a flash disk. Both
    are readable only with the volume's LUKS key.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        _write(descriptor, bytes(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
    sync_folder(path.parent)


def read_optional(path: Path) -> bytes | None:
    """The content of ``path``, or None if there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def sync_folder(folder: Path) -> None:
    """On return the names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    at = 0
    while at < len(content):
        at += os.write(descriptor, content[at : at + _CHUNK])


def _unfinished(path: Path) -> Path:
    """One fixed name: what a crash leaves behind, the next write overwrites."""
    return path.with_name(f".{path.name}.new")


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")
