"""The tree against definitions written another way, and against every kind of wrong proof."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    Frontier,
    ProofError,
    consistency_proof,
    consistency_ranges,
    inclusion_proof,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(b"%d" % n) for n in range(130)]
ROOTS = [root(LEAVES[:size]) for size in range(len(LEAVES) + 1)]
OTHER = leaf_hash(b"other")

sizes = st.integers(1, 130)


def oracle_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162 §2.1.1 as it is written."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return node_hash(oracle_root(leaves[:half]), oracle_root(leaves[half:]))


def oracle_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """RFC 9162 §2.1.3.2, which knows no ranges: the root that the proof leads to; None if its length is wrong."""
    if index >= size:
        return None
    fn, sn, seen = index, size - 1, leaf
    for hash_ in proof:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            seen = node_hash(hash_, seen)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            seen = node_hash(seen, hash_)
        fn, sn = fn >> 1, sn >> 1
    return seen if sn == 0 else None


def oracle_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes
) -> tuple[bytes, bytes] | None:
    """RFC 9162 §2.1.4.2: the two roots that the proof leads to; None if its length is wrong."""
    if old == new:
        return None if proof else (old_root, old_root)
    path = list(proof)
    if not path:
        return None
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for hash_ in path[1:]:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            fr, sr = node_hash(hash_, fr), node_hash(hash_, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, hash_)
        fn, sn = fn >> 1, sn >> 1
    return (fr, sr) if sn == 0 else None


class Inclusion(NamedTuple):
    leaf: bytes
    place: int
    size: int
    proof: list[bytes]
    root: bytes


class Consistency(NamedTuple):
    old: int
    new: int
    proof: list[bytes]
    old_root: bytes
    new_root: bytes


def inclusion(index: int, size: int) -> Inclusion:
    return Inclusion(LEAVES[index], index, size, inclusion_proof(LEAVES, index, size), ROOTS[size])


def consistency(old: int, new: int) -> Consistency:
    return Consistency(old, new, consistency_proof(LEAVES, old, new), ROOTS[old], ROOTS[new])


@given(st.integers(0, 130))
def test_root(size: int) -> None:
    """Level by level gives what the recursion gives."""
    assert ROOTS[size] == oracle_root(LEAVES[:size])


@pytest.mark.parametrize("size", range(1, 70))
def test_every_leaf_is_proved(size: int) -> None:
    """For each leaf of each small tree, to the verifier here and to the RFC's."""
    for index in range(size):
        one = inclusion(index, size)
        verify_inclusion(*one)
        assert oracle_inclusion(one.leaf, index, size, one.proof) == one.root


@pytest.mark.parametrize("new", range(1, 70))
def test_every_older_tree_is_proved(new: int) -> None:
    """For each pair of small trees, to the verifier here and to the RFC's."""
    for old in range(1, new + 1):
        one = consistency(old, new)
        verify_consistency(*one)
        assert oracle_consistency(old, new, one.proof, one.old_root) == (one.old_root, one.new_root)


@given(sizes, st.data())
def test_a_proof_of_another_length_or_content_is_judged_as_the_rfc_judges_it(
    size: int, data: st.DataObject
) -> None:
    """Any index and any list of the tree's own hashes."""
    index = data.draw(st.integers(0, size - 1))
    proof = data.draw(
        st.lists(st.sampled_from(inclusion_proof(LEAVES, index, size) + LEAVES[:3]), max_size=9)
    )
    accepted = _accepts(lambda: verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size]))
    assert accepted == (oracle_inclusion(LEAVES[index], index, size, proof) == ROOTS[size])


@given(sizes, st.data())
def test_so_is_a_consistency_proof(new: int, data: st.DataObject) -> None:
    """Any older size and any list of the tree's own hashes."""
    old = data.draw(st.integers(1, new))
    proof = data.draw(
        st.lists(st.sampled_from([*consistency_proof(LEAVES, old, new), ROOTS[old]]), max_size=9)
    )
    accepted = _accepts(lambda: verify_consistency(old, new, proof, ROOTS[old], ROOTS[new]))
    assert accepted == (oracle_consistency(old, new, proof, ROOTS[old]) == (ROOTS[old], ROOTS[new]))


WRONG_INCLUSION: dict[str, Callable[[Inclusion], Inclusion]] = {
    "the leaf before": lambda p: p._replace(leaf=LEAVES[p.place - 1]),
    "one index more": lambda p: p._replace(place=p.place + 1),
    "one index less": lambda p: p._replace(place=p.place - 1),
    "index is the size": lambda p: p._replace(place=p.size),
    "index below zero": lambda p: p._replace(place=-1),
    "no tree": lambda p: p._replace(size=0),
    "the root of one leaf more": lambda p: p._replace(root=ROOTS[p.size + 1]),
    "a hash too few": lambda p: p._replace(proof=p.proof[:-1]),
    "a hash too many": lambda p: p._replace(proof=[*p.proof, OTHER]),
    "no proof": lambda p: p._replace(proof=[]),
    "turned round": lambda p: p._replace(proof=p.proof[::-1]),
    "another hash": lambda p: p._replace(proof=[OTHER, *p.proof[1:]]),
    "a flipped bit": lambda p: p._replace(proof=[*p.proof[:-1], _flip(p.proof[-1])]),
    "a short hash": lambda p: p._replace(proof=[p.proof[0][:-1], *p.proof[1:]]),
    "a long hash": lambda p: p._replace(proof=[p.proof[0] + b"\0", *p.proof[1:]]),
    "an empty hash": lambda p: p._replace(proof=[b"", *p.proof[1:]]),
    "a short leaf": lambda p: p._replace(leaf=p.leaf[:-1]),
    "a short root": lambda p: p._replace(root=p.root[:-1]),
    "a node for a leaf": lambda p: p._replace(
        leaf=node_hash(LEAVES[20], LEAVES[21]), place=p.place // 2, size=(p.size + 1) // 2, proof=p.proof[1:]
    )._replace(root=OTHER),
}


@pytest.mark.parametrize("change", WRONG_INCLUSION.values(), ids=WRONG_INCLUSION)
def test_a_wrong_inclusion_proof_is_refused(change: Callable[[Inclusion], Inclusion]) -> None:
    """Each single thing that can be wrong with it."""
    right = inclusion(21, 37)
    verify_inclusion(*right)
    with pytest.raises(ProofError):
        verify_inclusion(*change(right))


WRONG_CONSISTENCY: dict[str, Callable[[Consistency], Consistency]] = {
    "older tree is empty": lambda p: p._replace(old=0, old_root=EMPTY_ROOT, proof=[]),
    "one leaf more then": lambda p: p._replace(old=p.old + 1),
    "one leaf less then": lambda p: p._replace(old=p.old - 1),
    "sizes the wrong way": lambda p: p._replace(
        old=p.new, new=p.old, old_root=p.new_root, new_root=p.old_root
    ),
    "another older root": lambda p: p._replace(old_root=OTHER),
    "another newer root": lambda p: p._replace(new_root=OTHER),
    "same size, other root": lambda p: p._replace(new=p.old, proof=[], new_root=OTHER),
    "same size, with a proof": lambda p: p._replace(new=p.old, new_root=p.old_root),
    "a hash too few": lambda p: p._replace(proof=p.proof[:-1]),
    "a hash too many": lambda p: p._replace(proof=[*p.proof, OTHER]),
    "the older root before it": lambda p: p._replace(proof=[p.old_root, *p.proof]),
    "no proof": lambda p: p._replace(proof=[]),
    "turned round": lambda p: p._replace(proof=p.proof[::-1]),
    "a flipped bit": lambda p: p._replace(proof=[_flip(p.proof[0]), *p.proof[1:]]),
    "a short hash": lambda p: p._replace(proof=[p.proof[0][:-1], *p.proof[1:]]),
    "a long hash": lambda p: p._replace(proof=[p.proof[0] + b"\0", *p.proof[1:]]),
    "a short root": lambda p: p._replace(old_root=p.old_root[:-1]),
}


@pytest.mark.parametrize("old", [22, 32])
@pytest.mark.parametrize("change", WRONG_CONSISTENCY.values(), ids=WRONG_CONSISTENCY)
def test_a_wrong_consistency_proof_is_refused(change: Callable[[Consistency], Consistency], old: int) -> None:
    """Each single thing that can be wrong with it, whether the older tree is a whole subtree or not."""
    right = consistency(old, 100)
    verify_consistency(*right)
    with pytest.raises(ProofError):
        verify_consistency(*change(right))


@pytest.mark.parametrize("changed", range(40))
def test_a_rewritten_tree_has_no_proof(changed: int) -> None:
    """Neither the old leaves' proof nor the new ones' leads from the old root to a tree with one leaf changed."""
    new = [*LEAVES[:changed], OTHER, *LEAVES[changed + 1 : 64]]
    for proof in (consistency_proof(LEAVES, 40, 64), consistency_proof(new, 40, 64)):
        with pytest.raises(ProofError):
            verify_consistency(40, 64, proof, ROOTS[40], root(new))


@pytest.mark.parametrize(("index", "size"), [(5, 5), (-1, 5), (0, 0), (0, MAX_SIZE + 1)])
def test_a_leaf_that_is_not_there(index: int, size: int) -> None:
    """The error says so."""
    with pytest.raises(ProofError, match="no leaf"):
        inclusion_ranges(index, size)


@pytest.mark.parametrize(("old", "new"), [(0, 5), (6, 5), (-1, 5), (1, MAX_SIZE + 1)])
def test_trees_that_have_no_consistency_proof(old: int, new: int) -> None:
    """The error says so."""
    with pytest.raises(ProofError, match="cannot be shown"):
        consistency_ranges(old, new)


def test_more_leaves_are_asked_for_than_there_are() -> None:
    """Rather than a proof for a smaller tree."""
    with pytest.raises(ProofError, match="130 leaves"):
        inclusion_proof(LEAVES, 1, 131)
    with pytest.raises(ProofError, match="130 leaves"):
        consistency_proof(LEAVES, 1, 131)


@given(st.integers(1, MAX_SIZE), st.data())
def test_proofs_of_huge_trees_are_short(size: int, data: st.DataObject) -> None:
    """63 hashes and one more at most, and they cover all other leaves once."""
    index = data.draw(st.integers(0, size - 1))
    ranges = inclusion_ranges(index, size)
    assert len(ranges) <= 63
    assert sum(end - first for first, end in ranges) == size - 1
    assert len(consistency_ranges(index + 1, size)) <= 64


@settings(max_examples=50)
@given(st.integers(0, 130), st.integers(0, 130))
def test_a_frontier_goes_on_from_where_it_was(size: int, more: int) -> None:
    """Kept as size and hashes, taken up again, it gives the root of all leaves."""
    frontier = Frontier()
    for leaf in LEAVES[: min(size, more)]:
        frontier.append(leaf)
    again = Frontier(frontier.size, frontier.hashes)
    for leaf in LEAVES[min(size, more) : max(size, more)]:
        again.append(leaf)
    assert again.root() == ROOTS[max(size, more)]
    assert again.size == max(size, more)
    assert frontier.root() == ROOTS[min(size, more)]


def test_a_frontier_takes_whole_subtrees() -> None:
    """Where they begin at a multiple of their size, and nowhere else."""
    frontier = Frontier()
    frontier.append_subtree(6, ROOTS[64])
    frontier.append_subtree(5, root(LEAVES[64:96]))
    assert frontier.root() == ROOTS[96]
    with pytest.raises(ProofError, match="cannot begin"):
        frontier.append_subtree(6, OTHER)


@pytest.mark.parametrize(
    ("size", "hashes"),
    [(3, [OTHER]), (0, [OTHER]), (1, []), (1, [b"short"]), (-1, [OTHER]), (1 << 63, [OTHER])],
)
def test_hashes_that_are_no_frontier(size: int, hashes: list[bytes]) -> None:
    """As many as bits are set, 32 bytes each."""
    with pytest.raises(ProofError):
        Frontier(size, hashes)


def test_a_frontier_refuses_what_is_no_hash() -> None:
    """Before it is in the tree."""
    frontier = Frontier()
    with pytest.raises(ProofError):
        frontier.append(b"short")
    assert frontier.size == 0


def test_a_copy_grows_apart() -> None:
    """The first stays as it was."""
    first = Frontier(1, [OTHER])
    second = first.copy()
    second.append(OTHER)
    assert (first.size, second.size) == (1, 2)
    assert first.root() == OTHER


def _accepts(check: Callable[[], None]) -> bool:
    try:
        check()
    except ProofError:
        return False
    return True


def _flip(hash_: bytes) -> bytes:
    return hash_[:-1] + bytes([hash_[-1] ^ 1])
