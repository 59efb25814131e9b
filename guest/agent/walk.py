"""A walk through a tree of folders by descriptors: no path is resolved twice, and no link is followed."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from guest.agent.beneath import WorkspaceRefused

MAX_DEPTH = 100
"""Each level holds a descriptor open."""
BATCH = 200_000


@dataclass(frozen=True)
class Found:
    """Something in ``folder``. A folder is told before what is in it."""

    folder: int
    name: str
    path: str
    """From where the walk began."""
    facts: os.stat_result


@dataclass(frozen=True)
class Left:
    """The folder ``name`` has been gone through."""

    folder: int
    name: str


def walk(folder: int, name: str) -> Iterator[Found | Left]:
    """What is in the folder ``name`` of ``folder``, by name, all the way down. Both stay open meanwhile.

    Raises:
        WorkspaceRefused: it is nested too deep. OSError: it cannot be read.
    """
    descriptor = _enter(folder, name)
    try:
        yield from _below(descriptor, "", 1)
    finally:
        os.close(descriptor)


def _below(folder: int, prefix: str, depth: int) -> Iterator[Found | Left]:
    if depth > MAX_DEPTH:
        raise WorkspaceRefused(
            409, "too_deep", f"folders are nested more than {MAX_DEPTH} deep; begin further down"
        )
    for name in _names(folder):
        try:
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            inner = _enter(folder, name) if stat.S_ISDIR(facts.st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            continue  # Gone, or exchanged, since it was listed.
        yield Found(folder, name, f"{prefix}{name}", facts)
        if inner is None:
            continue
        try:
            yield from _below(inner, f"{prefix}{name}/", depth + 1)
        finally:
            os.close(inner)
        yield Left(folder, name)


def _enter(folder: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as found:
        names = []
        for entry in found:
            names.append(entry.name)
            if len(names) >= BATCH:
                raise WorkspaceRefused(413, "too_many", f"a folder has more than {BATCH} entries")
    return sorted(names)
