"""The sequencer: each committed entry gets one leaf, in a tree that only grows, under a head that is signed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest

from audit import log, proofs
from audit.models import Checkpoint, Leaf, Tile
from audit.sequencer import Sequencer, sequence_once
from protocol import checkpoints, merkle
from protocol.receipts import check
from protocol.tiles import TileError, root_from_tiles
from tests.audit.conftest import assert_sound, hashes, write

pytestmark = pytest.mark.django_db(transaction=True)


def head() -> checkpoints.Checkpoint:
    newest = proofs.latest()
    assert newest is not None
    opened = checkpoints.opened(newest.note, log.vkey())
    assert (newest.size, bytes(newest.root)) == (opened.size, opened.root)
    return opened


def test_leaves_are_contiguous_and_hash_the_stored_text() -> None:
    write(3)
    assert sequence_once() == 3
    write(2)
    assert sequence_once() == 2
    leaves = list(Leaf.objects.order_by("index").values_list("index", "hash"))
    assert [index for index, _ in leaves] == [0, 1, 2, 3, 4]
    assert [bytes(hash_) for _, hash_ in leaves] == hashes()
    assert [row.size for row in Checkpoint.objects.order_by("size")] == [3, 5]
    assert (head().origin, head().size, head().root) == (log.vkey().name, 5, merkle.root(hashes()))
    assert_sound()


def test_nothing_new_signs_nothing() -> None:
    assert sequence_once() == 0
    assert not Checkpoint.objects.exists()
    write()
    sequence_once()
    assert sequence_once() == 0
    assert Checkpoint.objects.count() == 1


def test_full_tiles_are_stored_and_partial_ones_follow(make_sequencer: Callable[..., Sequencer]) -> None:
    """256 leaves make a tile; what is not full is read from the leaves, at each width."""
    write(600)
    sequence_once(batch=97)
    assert list(Tile.objects.values_list("level", "index").order_by("index")) == [(0, 0), (0, 1)]
    expected = hashes()
    assert proofs.read_tile(0, 1) == b"".join(expected[256:512])
    assert proofs.read_tile(0, 1, 3) == b"".join(expected[256:259])
    assert proofs.read_tile(0, 2, 88) == b"".join(expected[512:])
    assert proofs.read_tile(1, 0, 2) == merkle.root(expected[:256]) + merkle.root(expected[256:512])
    assert root_from_tiles(600, proofs.read_tile) == merkle.root(expected) == head().root
    for level, index, width in [(0, 2, 89), (0, 3, 1), (1, 0, 3), (0, 0, 0), (0, 0, 257)]:
        with pytest.raises(TileError):
            proofs.read_tile(level, index, width)


def test_proofs_from_the_database() -> None:
    write(300)
    sequence_once(batch=70)
    expected, newest = hashes(), head()
    for index in (0, 1, 69, 70, 255, 256, 299):
        proof = proofs.inclusion(index, 300)
        merkle.verify_inclusion(expected[index], index, 300, proof, newest.root)
    for old in Checkpoint.objects.exclude(size=300):
        proof = proofs.consistency(old.size, 300)
        merkle.verify_consistency(old.size, 300, proof, bytes(old.root), newest.root)


def test_a_proof_asks_the_database_once(
    django_assert_num_queries: Callable[..., AbstractContextManager[object]],
) -> None:
    """However many tiles it needs, full or not."""
    write(300)
    sequence_once()
    with django_assert_num_queries(1):
        proofs.inclusion(270, 299)
    with django_assert_num_queries(1):
        proofs.consistency(130, 300)


def test_a_proof_in_an_older_tree_whose_tiles_are_full_by_now() -> None:
    """The first hashes of a full tile are what the tile was."""
    write(200)
    sequence_once()
    old = head()
    write(200)
    sequence_once()
    merkle.verify_inclusion(hashes()[199], 199, 200, proofs.inclusion(199, 200), old.root)


def test_a_receipt_convinces_whoever_has_only_the_key() -> None:
    (entry,) = write()
    assert proofs.receipt(entry) is None
    with pytest.raises(proofs.NotSequencedError):
        proofs.inclusion(entry, 1)
    sequence_once()
    receipt = proofs.receipt(entry)
    assert receipt is not None
    checked = check(receipt, log.vkey())
    assert (checked.index, checked.event["action"]) == (0, "thing.done")


def test_lag_counts_what_waits() -> None:
    assert proofs.lag() == proofs.Lag(0, 0.0)
    oldest = write(2)[0]
    lag = proofs.lag(now=oldest.at + timedelta(seconds=90))
    assert (lag.entries, lag.seconds) == (2, 90.0)
    sequence_once()
    assert proofs.lag() == proofs.Lag(0, 0.0)
