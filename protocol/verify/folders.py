"""Folders of tiles: ``checkpoint``, ``tile/<level>/…`` and ``tile/entries/…`` as C2SP tlog-tiles names them.

A whole log has every tile and bundle. A segment (an archive of the entries from ``first`` to ``end``) has the
bundles and the level-0 tiles of its own range, every tile of the levels above, and the last tile of level 0.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from protocol.merkle import HASH_BYTES, ProofError, leaf_hash, root
from protocol.notes import MAX_NOTE_BYTES
from protocol.tiles import (
    TILE_WIDTH,
    TileError,
    entries_path,
    root_from_tiles,
    split_tile,
    tile_path,
    tile_width,
    unbundle,
)
from protocol.verify.outcome import Keys, VerificationError, Verified
from protocol.verify.parts import in_order

CHECKPOINT = "checkpoint"
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + 65_535)
PART_TILES = 64


@dataclass(frozen=True)
class _Tiles:
    """Tiles of level 0 from the first to, and without, the second."""

    begin: int
    end: int


def verify_folder(
    folder: Path, keys: Keys, first: int = 0, end: int | None = None, processes: int = 1
) -> Verified:
    """Check that the folder's entries, from ``first`` to ``end``, are those of its signed checkpoint.

    Raises:
        VerificationError: they are not, or a file is missing.
    """
    checkpoint, cosigned = keys.opened(_read(folder, CHECKPOINT, MAX_NOTE_BYTES))
    size = checkpoint.size
    last = size if end is None else end
    if not 0 <= first <= last <= size:
        raise VerificationError(f"the checkpoint's tree has {size} entries")
    _check_root(folder, checkpoint.size, checkpoint.root)
    tiles = range(first // TILE_WIDTH, -(-last // TILE_WIDTH))
    parts = [_Tiles(at, min(at + PART_TILES, tiles.stop)) for at in tiles[::PART_TILES]]
    counts = in_order(partial(_check_entries, folder, size), parts, processes)
    return Verified(sum(counts), checkpoint, cosigned)


def _check_root(folder: Path, size: int, expected: bytes) -> None:
    """Every level above 0 hangs together, up to the root."""
    level = 1
    while size >> (8 * (level + 1)):
        above = b"".join(_tile(folder, level + 1, index, size) for index in _indexes(level + 1, size))
        for index in range(size >> (8 * (level + 1))):
            if _tile_root(_tile(folder, level, index, size)) != _at(above, index):
                raise VerificationError(f"{tile_path(level, index)} does not fit the tile above it")
        level += 1
    try:
        found = root_from_tiles(size, partial(_read_tile, folder))
    except ProofError as error:
        raise VerificationError(str(error)) from None
    if found != expected:
        raise VerificationError("the tiles are not those that the checkpoint signs: their root differs")


def _check_entries(folder: Path, size: int, part: _Tiles) -> int:
    """Bundles fit tiles of level 0, and those fit level 1. How many entries that were."""
    count = 0
    for index in range(part.begin, part.end):
        width = tile_width(0, index, size)
        path = entries_path(index, width)
        try:
            leaves = [leaf_hash(entry) for entry in unbundle(_read(folder, path, MAX_BUNDLE_BYTES))]
        except TileError as error:
            raise VerificationError(f"{path}: {error}") from None
        _compare(leaves, split_tile(_tile(folder, 0, index, size), width), path, index * TILE_WIDTH)
        if width == TILE_WIDTH and root(leaves) != _above(folder, index, size):
            raise VerificationError(f"{tile_path(0, index)} does not fit the tile above it")
        count += width
    return count


def _compare(leaves: list[bytes], tile: list[bytes], path: str, first: int) -> None:
    if len(leaves) != len(tile):
        raise VerificationError(f"{path}: {len(leaves)} entries where {len(tile)} belong")
    for offset, (one, other) in enumerate(zip(leaves, tile, strict=True)):
        if one != other:
            raise VerificationError(f"{path}: entry {first + offset} is not the one in the tree")


def _above(folder: Path, index: int, size: int) -> bytes:
    tile, offset = divmod(index, TILE_WIDTH)
    return _at(_tile(folder, 1, tile, size), offset)


def _indexes(level: int, size: int) -> range:
    return range(-(-(size >> (8 * level)) // TILE_WIDTH))


def _at(hashes: bytes, index: int) -> bytes:
    return hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]


def _tile_root(data: bytes) -> bytes:
    return root(split_tile(data, TILE_WIDTH))


def _tile(folder: Path, level: int, index: int, size: int) -> bytes:
    return _read_tile(folder, level, index, tile_width(level, index, size))


def _read_tile(folder: Path, level: int, index: int, width: int) -> bytes:
    path = tile_path(level, index, width)
    data = _read(folder, path, width * HASH_BYTES)
    if len(data) != width * HASH_BYTES:
        raise VerificationError(f"{path}: {len(data)} bytes where {width * HASH_BYTES} belong")
    return data


def _read(folder: Path, path: str, limit: int) -> bytes:
    try:
        with (folder / path).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise VerificationError(f"{path}: {error.strerror}") from None
    if len(data) > limit:
        raise VerificationError(f"{path}: more than {limit} bytes")
    return data
