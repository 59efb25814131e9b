"""The log as files: ``checkpoint``, ``tile/…`` and ``tile/entries/…`` as C2SP tlog-tiles names them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from audit import proofs
from audit.bodies import entry_bundle
from audit.models import Checkpoint, Segment
from audit.proofs import note_of
from protocol.tiles import TILE_WIDTH, entries_path, tile_path, tile_width
from protocol.verify.folders import CHECKPOINT


def export_tree(folder: Path, checkpoint: Checkpoint) -> int:
    """Write the whole tree of a checkpoint; full files that are there from an earlier export stay.

    Entries that have been archived are left out: their archives hold them. Returns how many were written.

    Raises:
        OSError: the folder cannot be written.
        TileError: something is missing in the database.
    """
    return _write(folder, checkpoint, Segment.archived() // TILE_WIDTH * TILE_WIDTH, checkpoint.size)


def export_segment(folder: Path, checkpoint: Checkpoint, first: int, end: int) -> int:
    """Write what proves the entries ``first <= index < end`` by themselves. As :func:`export_tree`."""
    return _write(folder, checkpoint, first, end)


def _write(folder: Path, checkpoint: Checkpoint, first: int, end: int) -> int:
    size, written = checkpoint.size, 0
    for level, index in _tiles(size, first, end):
        width = tile_width(level, index, size)
        path = folder / tile_path(level, index, width)
        written += _put(path, width, lambda: proofs.read_tile(level, index, width))  # noqa: B023 - called at once
    for index in range(first // TILE_WIDTH, -(-end // TILE_WIDTH)):
        width = tile_width(0, index, size)
        path = folder / entries_path(index, width)
        written += _put(path, width, lambda: entry_bundle(index, width))  # noqa: B023 - called at once
    _replace(folder / CHECKPOINT, note_of(checkpoint).encode())  # last: an export that was cut short has none
    return written + 1


def _tiles(size: int, first: int, end: int) -> Iterator[tuple[int, int]]:
    """Level 0 of the range and its last tile; every tile of the levels above."""
    last = -(-size // TILE_WIDTH) - 1
    yield from ((0, index) for index in range(first // TILE_WIDTH, -(-end // TILE_WIDTH)))
    if last >= -(-end // TILE_WIDTH):
        yield 0, last
    level = 1
    while size >> (8 * level):
        yield from ((level, index) for index in range(-(-(size >> (8 * level)) // TILE_WIDTH)))
        level += 1


def _put(path: Path, width: int, made: Callable[[], bytes]) -> int:
    """A full file never changes; one that is partial is written anew."""
    if width == TILE_WIDTH and path.is_file() and path.stat().st_size:
        return 0
    _replace(path, made())
    return 1


def settle(folder: Path) -> None:
    """See to it that all names in a folder, and its own, outlast a loss of power."""
    for at, _, _ in os.walk(folder):
        _sync(Path(at))
    _sync(folder.parent)
    _sync(folder.parent.parent)  # the parent may be new as well


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all, and on the disk before the next step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
