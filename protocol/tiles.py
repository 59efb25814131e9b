"""Tiles (C2SP tlog-tiles): the tree in files of 256 hashes, and the entries in bundles of 256.

A tile of level L holds the roots of complete subtrees of 256^L leaves, side by side. Only the last tile of a
level may hold fewer than 256; it is asked for by its width. Every proof comes from a few tiles.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache

from protocol.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    ProofError,
    Range,
    consistency_ranges,
    inclusion_ranges,
    range_hash,
    root,
    subtrees,
)

TILE_HEIGHT = 8
TILE_WIDTH = 256
MAX_ENTRY_BYTES = 65_535
MAX_LEVEL = 63

ReadTile = Callable[[int, int, int], bytes]
"""``(level, index, width) -> bytes``: the first ``width`` hashes of a tile, 32 bytes each."""


class TileError(ProofError):
    """A tile or bundle that is malformed."""


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Where a tile of hashes stands, such as ``tile/0/x001/x234/067`` or ``tile/1/000.p/5``."""
    if not 0 <= level <= MAX_LEVEL:
        raise TileError(f"no tiles of level {level}")
    return f"tile/{level}/{_number(index)}{_partial(width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """Where a bundle of entries stands, such as ``tile/entries/000.p/5``."""
    return f"tile/entries/{_number(index)}{_partial(width)}"


def bundle(entries: Sequence[bytes]) -> bytes:
    """Entries, each after its length in 2 bytes. Raises TileError: too many, or one too long."""
    if len(entries) > TILE_WIDTH:
        raise TileError(f"a bundle holds {TILE_WIDTH} entries at most")
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise TileError(f"an entry in a bundle has {MAX_ENTRY_BYTES} bytes at most")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unbundle(data: bytes) -> list[bytes]:
    """The entries of a bundle. Raises TileError: cut short, or more than 256."""
    entries: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        begin = at + 2
        at = begin + int.from_bytes(data[at:begin], "big")
        if begin > end or at > end or len(entries) == TILE_WIDTH:
            raise TileError("the bundle is cut short or holds too many entries")
        entries.append(data[begin:at])
    return entries


def split_tile(data: bytes, width: int) -> list[bytes]:
    """The hashes of a tile. Raises TileError: not ``width`` of them."""
    if len(data) != width * HASH_BYTES:
        raise TileError(f"a tile of {width} hashes has {width * HASH_BYTES} bytes, not {len(data)}")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def tile_width(level: int, index: int, size: int) -> int:
    """How many hashes a tile has in a tree of ``size`` leaves: 0 to 256."""
    return max(0, min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - TILE_WIDTH * index))


def tiles_of(ranges: Iterable[Range], size: int) -> list[tuple[int, int, int]]:
    """Which tiles the hashes of these runs come from, each once, as :data:`ReadTile` is asked for them.

    For whoever fetches several at once: the ranges are those of :mod:`protocol.merkle`.
    """
    found = {}
    for first, end in ranges:
        for level, index in subtrees(first, end):
            tile_level, tile, _ = _place(level, index)
            found[tile_level, tile] = tile_width(tile_level, tile, size)
    return [(level, index, width) for (level, index), width in found.items()]


def inclusion_from_tiles(index: int, size: int, read_tile: ReadTile) -> list[bytes]:
    """As :func:`protocol.merkle.inclusion_proof`, from tiles. Raises ProofError."""
    subtree = _subtrees(size, read_tile)
    return [range_hash(first, end, subtree) for first, end in inclusion_ranges(index, size)]


def consistency_from_tiles(old: int, new: int, read_tile: ReadTile) -> list[bytes]:
    """As :func:`protocol.merkle.consistency_proof`, from tiles. Raises ProofError."""
    subtree = _subtrees(new, read_tile)
    return [range_hash(first, end, subtree) for first, end in consistency_ranges(old, new)]


def root_from_tiles(size: int, read_tile: ReadTile) -> bytes:
    """The root of the first ``size`` leaves. Raises ProofError."""
    return range_hash(0, size, _subtrees(size, read_tile)) if size else EMPTY_ROOT


def frontier_from_tiles(size: int, read_tile: ReadTile) -> list[bytes]:
    """What :class:`protocol.merkle.Frontier` needs to go on from ``size``. Raises ProofError."""
    subtree = _subtrees(size, read_tile)
    levels = [level for level in range(size.bit_length() - 1, -1, -1) if size >> level & 1]
    return [subtree(level, (size >> level) - 1) for level in levels]


def _subtrees(size: int, read_tile: ReadTile) -> Callable[[int, int], bytes]:
    """The root of a complete subtree, reading each tile once."""

    @cache
    def hashes(level: int, index: int) -> list[bytes]:
        width = tile_width(level, index, size)
        return split_tile(read_tile(level, index, width), width)

    def subtree(level: int, index: int) -> bytes:
        tile_level, tile, offset = _place(level, index)
        return root(hashes(tile_level, tile)[offset : offset + (1 << level % TILE_HEIGHT)])

    return subtree


def _place(level: int, index: int) -> tuple[int, int, int]:
    """The tile under a subtree: its level, its index, and where in it the subtree begins."""
    tile_level, inside = divmod(level, TILE_HEIGHT)
    return tile_level, *divmod(index << inside, TILE_WIDTH)


def _number(index: int) -> str:
    """``1234067`` as ``x001/x234/067``."""
    if index < 0:
        raise TileError("a tile's index is not negative")
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups))


def _partial(width: int) -> str:
    if not 1 <= width <= TILE_WIDTH:
        raise TileError(f"a tile is 1 to {TILE_WIDTH} wide")
    return "" if width == TILE_WIDTH else f".p/{width}"
