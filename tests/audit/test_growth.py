"""The growing tree, against the plain one over all leaves."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.sequencer.growth import Growth
from protocol import merkle

LEAVES = [sha256(str(n).encode()).digest() for n in range(1100)]


@given(st.lists(st.integers(min_value=0, max_value=300), max_size=4))
def test_in_whatever_pieces_it_grows_the_root_is_the_same(pieces: list[int]) -> None:
    growth, size = Growth(), 0
    for piece in pieces:
        growth.extend(LEAVES[size : size + piece] if size + piece <= len(LEAVES) else [])
        size = growth.size
        assert growth.root() == merkle.root(LEAVES[:size])


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 1023])
def test_roots_around_the_edges_of_tiles(size: int) -> None:
    growth = Growth()
    growth.extend(LEAVES[:size])
    assert growth.root() == merkle.root(LEAVES[:size])


def test_tiles_appear_when_they_are_full() -> None:
    growth = Growth()
    tiles = growth.extend(LEAVES[:1023])
    assert [(tile.level, tile.index) for tile in tiles] == [(0, 0), (0, 1), (0, 2)]
    assert tiles[1].data == b"".join(LEAVES[256:512])
    assert tiles[1].root == merkle.root(LEAVES[256:512])
    assert [tile.index for tile in growth.append(LEAVES[1023])] == [3]


def test_the_second_level_fills_with_65536_leaves() -> None:
    growth = Growth()
    tiles = growth.extend([LEAVES[0]] * 65_537)
    above = [tile for tile in tiles if tile.level == 1]
    assert [(tile.index, len(tile.data)) for tile in above] == [(0, 8192)]
    assert growth.root() == merkle.root([LEAVES[0]] * 65_537)


def test_a_copy_grows_apart() -> None:
    growth = Growth()
    growth.extend(LEAVES[:300])
    other = growth.copy()
    other.extend(LEAVES[300:600])
    assert (growth.size, growth.root()) == (300, merkle.root(LEAVES[:300]))
