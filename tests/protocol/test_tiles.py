"""Tiles: their names, their bundles, and proofs made of them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.merkle import (
    Frontier,
    consistency_proof,
    consistency_ranges,
    inclusion_proof,
    inclusion_ranges,
    root,
    verify_inclusion,
)
from protocol.tiles import (
    MAX_ENTRY_BYTES,
    ReadTile,
    TileError,
    bundle,
    consistency_from_tiles,
    entries_path,
    frontier_from_tiles,
    inclusion_from_tiles,
    root_from_tiles,
    split_tile,
    tile_path,
    tile_width,
    tiles_of,
    unbundle,
)
from tests.protocol.logs import log_of

LOG = log_of(1500)
SIZES = [1, 2, 255, 256, 257, 300, 511, 512, 513, 1023, 1024, 1025, 1500]
read_tile = cache(LOG.read_tile)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (tile_path(0, 0), "tile/0/000"),
        (tile_path(1, 0, 5), "tile/1/000.p/5"),
        (tile_path(0, 999), "tile/0/999"),
        (tile_path(0, 1000), "tile/0/x001/000"),
        (tile_path(63, 1234067), "tile/63/x001/x234/067"),
        (tile_path(0, 1234067, 255), "tile/0/x001/x234/067.p/255"),
        (entries_path(0), "tile/entries/000"),
        (entries_path(1234067, 8), "tile/entries/x001/x234/067.p/8"),
    ],
)
def test_names(path: str, expected: str) -> None:
    """As C2SP spells them."""
    assert path == expected


@pytest.mark.parametrize(
    ("level", "index", "width"), [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)]
)
def test_tiles_that_have_no_name(level: int, index: int, width: int) -> None:
    """A width of 0 is no tile."""
    with pytest.raises(TileError):
        tile_path(level, index, width)


@given(st.lists(st.binary(max_size=40), max_size=256))
def test_bundles(entries: list[bytes]) -> None:
    """Packed and unpacked."""
    assert unbundle(bundle(entries)) == entries


@given(st.binary(max_size=400))
def test_any_bytes_are_a_bundle_or_an_error(data: bytes) -> None:
    """And what is a bundle has one spelling."""
    try:
        entries = unbundle(data)
    except TileError:
        return
    assert bundle(entries) == data


@pytest.mark.parametrize(
    "data", [b"\0", b"\0\2a", b"\0\1a\0", b"\0\0" * 257], ids=["half a length", "short", "rest", "257"]
)
def test_what_is_no_bundle(data: bytes) -> None:
    """Cut short, or too many."""
    with pytest.raises(TileError):
        unbundle(data)


def test_what_does_not_fit_into_a_bundle() -> None:
    """A length has two bytes."""
    assert unbundle(bundle([bytes(MAX_ENTRY_BYTES)])) == [bytes(MAX_ENTRY_BYTES)]
    with pytest.raises(TileError):
        bundle([bytes(MAX_ENTRY_BYTES + 1)])
    with pytest.raises(TileError):
        bundle([b""] * 257)


@pytest.mark.parametrize("size", SIZES)
def test_roots_and_frontiers(size: int) -> None:
    """From tiles as from leaves."""
    assert root_from_tiles(size, read_tile) == root(LOG.leaves[:size])
    assert Frontier(size, frontier_from_tiles(size, read_tile)).root() == root(LOG.leaves[:size])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1500), st.data())
def test_proofs(size: int, data: st.DataObject) -> None:
    """From tiles as from leaves."""
    index = data.draw(st.integers(0, size - 1))
    assert inclusion_from_tiles(index, size, read_tile) == inclusion_proof(LOG.leaves, index, size)
    assert consistency_from_tiles(index + 1, size, read_tile) == consistency_proof(
        LOG.leaves, index + 1, size
    )


def test_the_empty_tree_reads_nothing() -> None:
    """There is no tile to read."""
    assert root_from_tiles(0, _none) == root([])
    assert frontier_from_tiles(0, _none) == []


def test_a_proof_reads_few_tiles() -> None:
    """Of a tree of 10^9 leaves: at most two of each level, and each once."""
    asked: list[tuple[int, int]] = []

    def reading(level: int, index: int, width: int) -> bytes:
        asked.append((level, index))
        return bytes(32 * width)

    inclusion_from_tiles(123_456_789, 1_000_000_000, reading)
    assert len(asked) == len(set(asked)) <= 8


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1500), st.data())
def test_what_will_be_read_is_known_before(size: int, data: st.DataObject) -> None:
    """Just the tiles that a proof then asks for, so that they can be fetched together."""
    index = data.draw(st.integers(0, size - 1))
    proofs: tuple[tuple[Any, Callable[[ReadTile], list[bytes]]], ...] = (
        (inclusion_ranges(index, size), lambda read: inclusion_from_tiles(index, size, read)),
        (consistency_ranges(index + 1, size), lambda read: consistency_from_tiles(index + 1, size, read)),
    )
    for ranges, make in proofs:
        asked: list[tuple[int, int, int]] = []

        def reading(level: int, at: int, width: int) -> bytes:
            asked.append((level, at, width))  # noqa: B023 - called at once
            return bytes(read_tile(level, at, width))

        make(reading)
        assert sorted(asked) == sorted(tiles_of(ranges, size))


WRONG_TILES: dict[str, Callable[[bytes], bytes]] = {
    "a hash too few": lambda data: data[:-32],
    "a byte too few": lambda data: data[:-1],
    "a byte too many": lambda data: data + b"\0",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("change", WRONG_TILES.values(), ids=WRONG_TILES)
def test_a_tile_of_the_wrong_length(change: Callable[[bytes], bytes]) -> None:
    """Is no source of proofs."""
    with pytest.raises(TileError, match="bytes, not"):
        inclusion_from_tiles(7, 300, lambda *tile: change(read_tile(*tile)))


def test_a_tile_with_a_flipped_bit_makes_a_proof_that_fails() -> None:
    """Wherever it matters for this leaf."""

    def flipped(level: int, index: int, width: int) -> bytes:
        data = bytearray(read_tile(level, index, width))
        data[-1] ^= 1
        return bytes(data)

    with pytest.raises(ValueError, match="not in this tree"):
        verify_inclusion(LOG.leaves[7], 7, 300, inclusion_from_tiles(7, 300, flipped), root(LOG.leaves[:300]))


@pytest.mark.parametrize(
    ("level", "index", "size", "width"),
    [
        (0, 0, 300, 256),
        (0, 1, 300, 44),
        (0, 2, 300, 0),
        (1, 0, 300, 1),
        (1, 0, 255, 0),
        (1, 0, 65536, 256),
        (2, 0, 65536, 1),
    ],
)
def test_widths(level: int, index: int, size: int, width: int) -> None:
    """How much of a tile a tree fills."""
    assert tile_width(level, index, size) == width


def test_a_tile_is_split_into_hashes() -> None:
    """Of 32 bytes each."""
    assert split_tile(b"a" * 32 + b"b" * 32, 2) == [b"a" * 32, b"b" * 32]


def _none(level: int, index: int, width: int) -> bytes:
    raise AssertionError
