"""The image's version: a short hash of everything that the recipe reads from the repository."""

import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from guest.image import recipe

INPUTS = ("guest", "protocol")
"""Folders of the repository whose files decide what the image holds."""

IGNORED_SUFFIXES = frozenset({".pyc", ".md"})


def recipe_inputs(repository: Path) -> list[Path]:
    """Every input file, sorted by its path inside ``repository``."""
    files = (path for folder in INPUTS for path in (repository / folder).rglob("*"))
    return sorted(path for path in files if path.is_file() and path.suffix not in IGNORED_SUFFIXES)


def image_version(repository: Path = recipe.REPOSITORY) -> str:
    """Return ``g-`` and 12 hexadecimal digits that change with any input's name, content or mode."""
    return f"g-{_digest(repository, recipe_inputs(repository))[:12]}"


def _digest(repository: Path, files: Iterable[Path]) -> str:
    total = sha256()
    for path in files:
        name = path.relative_to(repository).as_posix().encode()
        executable = b"x" if path.stat().st_mode & stat.S_IXUSR else b"-"
        total.update(len(name).to_bytes(8, "big") + name + executable)
        total.update(sha256(path.read_bytes()).digest())
    return total.hexdigest()
