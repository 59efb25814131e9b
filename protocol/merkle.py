"""The Merkle tree of RFC 9162 §2.1: hashes, proofs and their verification. Pure functions.

A proof is a list of hashes, each of one run of neighbouring leaves. :func:`inclusion_ranges` and
:func:`consistency_ranges` say which runs; making a proof hashes them, checking one folds them together again.
So a proof has exactly one valid length, and whoever holds tiles in place of leaves makes the same proofs.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
"""Leaves in a tree, at most: what a database's integer and C2SP's checkpoints hold."""
EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""

Range = tuple[int, int]
"""Leaves from the first number up to, and without, the second."""


class ProofError(ValueError):
    """A proof that must not be believed; the message says why."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of one entry's bytes: SHA-256(0x00 ‖ data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash over two neighbours: SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over all leaves; :data:`EMPTY_ROOT` without any."""
    level = list(leaf_hashes)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = level[-1:] if len(level) % 2 else []
        level = [sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return level[0]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int, size: int) -> list[bytes]:
    """The proof that leaf ``index`` is in the tree of the first ``size`` leaves (RFC 9162 §2.1.3.1).

    Raises:
        ProofError: no such leaf, or fewer leaves than ``size``.
    """
    _enough(leaf_hashes, size)
    return [root(leaf_hashes[first:end]) for first, end in inclusion_ranges(index, size)]


def consistency_proof(leaf_hashes: Sequence[bytes], old: int, new: int) -> list[bytes]:
    """The proof that the tree of ``new`` leaves begins with that of ``old`` (RFC 9162 §2.1.4.1).

    Raises:
        ProofError: ``old`` is 0 or larger than ``new``, or there are fewer leaves than ``new``.
    """
    _enough(leaf_hashes, new)
    return [root(leaf_hashes[first:end]) for first, end in consistency_ranges(old, new)]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf with this hash stands at ``index`` of the tree with this size and root.

    Raises:
        ProofError: it does not, or the proof is malformed.
    """
    _hashes([leaf, root, *proof])
    ranges = inclusion_ranges(index, size)
    _length(proof, ranges)
    seen = leaf
    for (first, _), sibling in zip(ranges, proof, strict=True):
        seen = node_hash(seen, sibling) if first > index else node_hash(sibling, seen)
    if seen != root:
        raise ProofError("the leaf is not in this tree at this index")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the newer tree begins with the whole of the older one.

    Raises:
        ProofError: it does not, the proof is malformed, or ``old`` is 0 (which would prove nothing).
    """
    _hashes([old_root, new_root, *proof])
    ranges = consistency_ranges(old, new)
    _length(proof, ranges)
    steps = list(zip(ranges, proof, strict=True))
    seen_old = seen_new = old_root
    if (
        steps and steps[0][0][1] == old
    ):  # the old tree is no subtree of the new one: its last part comes first
        seen_old = seen_new = steps.pop(0)[1]
    for (first, _), sibling in steps:
        if first >= old:
            seen_new = node_hash(seen_new, sibling)
        else:
            seen_old, seen_new = node_hash(sibling, seen_old), node_hash(sibling, seen_new)
    if seen_old != old_root:
        raise ProofError("the proof does not fit the older root")
    if seen_new != new_root:
        raise ProofError("the proof does not fit the newer root: the tree has been rewritten")


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Which runs of leaves an inclusion proof holds, in its order. Raises ProofError: no such leaf."""
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"no leaf {index} in a tree of {size}")
    ranges, first, end = [], 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((first, middle))
            first = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """Which runs of leaves a consistency proof holds, in its order.

    Raises:
        ProofError: ``old`` is 0 or larger than ``new``.
    """
    if not 0 < old <= new <= MAX_SIZE:
        raise ProofError(f"a tree of {new} cannot be shown to extend one of {old}")
    ranges, first, end = [], 0, new
    while old != end:
        middle = first + _split(end - first)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((first, middle))
            first = middle
    if first:
        ranges.append((first, end))
    return ranges[::-1]


def subtrees(first: int, end: int) -> list[tuple[int, int]]:
    """The complete subtrees that make up a run of some proof, left to right, as ``(level, index)``.

    A subtree covers the leaves ``index << level`` up to ``(index + 1) << level``.
    """
    parts = []
    while first < end:
        level = (end - first).bit_length() - 1
        parts.append((level, first >> level))
        first += 1 << level
    return parts


def fold(hashes: Sequence[bytes]) -> bytes:
    """The hash over neighbouring complete subtrees of falling size, as :func:`subtrees` lists them."""
    if not hashes:
        return EMPTY_ROOT
    seen = hashes[-1]
    for left in reversed(hashes[:-1]):
        seen = node_hash(left, seen)
    return seen


def range_hash(first: int, end: int, subtree: Callable[[int, int], bytes]) -> bytes:
    """The hash over a run of leaves, from ``subtree(level, index)`` of the complete subtrees in it."""
    return fold([subtree(level, index) for level, index in subtrees(first, end)])


class Frontier:
    """A growing tree, as little of it as its root needs: the complete subtrees, largest first."""

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """Go on from a size and its :attr:`hashes`. Raises ProofError: they do not fit."""
        self._size, self._hashes = size, list(hashes)
        _hashes(self._hashes)
        if not 0 <= size <= MAX_SIZE or len(self._hashes) != size.bit_count():
            raise ProofError(f"{len(self._hashes)} hashes are no frontier of {size} leaves")

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """One hash for each bit that is set in the size, largest subtree first."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf's hash."""
        self.append_subtree(0, leaf)

    def append_subtree(self, level: int, subtree: bytes) -> None:
        """Add the root over the next 2^level leaves. Raises ProofError: the size is no multiple of that."""
        if len(subtree) != HASH_BYTES:
            raise ProofError("a hash is not 32 bytes long")
        if self._size & ((1 << level) - 1):
            raise ProofError(f"a subtree of level {level} cannot begin at leaf {self._size}")
        above = self._size >> level
        while above & 1:
            subtree = node_hash(self._hashes.pop(), subtree)
            above >>= 1
        self._hashes.append(subtree)
        self._size += 1 << level

    def root(self) -> bytes:
        """The root over all leaves so far."""
        return fold(self._hashes)

    def copy(self) -> "Frontier":
        """Another one that grows apart from here."""
        return Frontier(self._size, self._hashes)


def _split(count: int) -> int:
    """The largest power of two smaller than ``count`` (count ≥ 2)."""
    return 1 << ((count - 1).bit_length() - 1)


def _enough(leaf_hashes: Sequence[bytes], size: int) -> None:
    if len(leaf_hashes) < size:
        raise ProofError(f"{len(leaf_hashes)} leaves are no tree of {size}")


def _hashes(given: Iterable[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in given):
        raise ProofError("a hash is not 32 bytes long")


def _length(proof: Sequence[bytes], ranges: Sequence[Range]) -> None:
    if len(proof) != len(ranges):
        raise ProofError(f"the proof has {len(proof)} hashes where {len(ranges)} belong")
