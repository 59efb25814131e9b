"""What a witness signs, and each thing that it does not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.checkpoints import Checkpoint, hash_lines, signed
from protocol.merkle import EMPTY_ROOT, consistency_proof, root
from protocol.notes import NoteError, sign
from protocol.witnessing import MAX_PROOF, Refused, Request, State, judge
from tests.protocol.logs import KEY, ORIGIN, SEED, Log, log_of

LOG = log_of(40)
FORK = Log([*LOG.events[:10], '{"n":"other"}', *LOG.events[11:]])


def state(size: int, log: Log = LOG) -> State:
    return State(size, root(log.leaves[:size]))


def request(old: int, new: int, log: Log = LOG) -> Request:
    return Request(old, log.consistency(old, new) if old else (), log.note(new))


def reason(held: State | None, asked: Request) -> tuple[str, int]:
    with pytest.raises(Refused) as refused:
        judge(held, asked, KEY)
    return refused.value.reason, refused.value.size


@pytest.mark.parametrize("new", [0, 1, 40])
def test_the_first_checkpoint_is_taken_as_it_is(new: int) -> None:
    """There is nothing to compare it with; also where an empty tree is all that is held."""
    assert judge(None, request(0, new), KEY) == LOG.checkpoint(new)
    assert judge(state(0), request(0, new), KEY) == LOG.checkpoint(new)


@pytest.mark.parametrize("old", range(1, 40))
def test_a_longer_tree_is_taken(old: int) -> None:
    """With its proof."""
    assert judge(state(old), request(old, 40), KEY).size == 40


def test_the_same_checkpoint_is_taken_again() -> None:
    """So that an answer that got lost can be asked for again."""
    assert judge(state(20), request(20, 20), KEY).size == 20


def test_a_fork_of_the_same_size() -> None:
    """The same size, and another root."""
    assert reason(state(20), request(20, 20, FORK)) == ("forked", 20)


def test_a_longer_fork() -> None:
    """Its own proof leads from another root."""
    assert reason(state(20), request(20, 40, FORK)) == ("proof", 20)


def test_a_longer_fork_with_the_honest_proof() -> None:
    """The proof leads to another root."""
    assert reason(state(20), replace(request(20, 40), note=FORK.note(40))) == ("proof", 20)


def test_a_shorter_tree() -> None:
    """Even an honest one, whatever size it names."""
    assert reason(state(20), request(10, 19)) == ("smaller", 20)
    assert reason(state(20), Request(20, (), LOG.note(0))) == ("smaller", 20)


def test_a_log_that_does_not_know_what_the_witness_holds() -> None:
    """Is told, and can ask again."""
    assert reason(state(20), request(10, 40)) == ("stale", 20)
    assert reason(state(20), request(25, 40)) == ("stale", 20)
    assert reason(state(20), request(0, 40)) == ("stale", 20)
    assert reason(None, request(10, 40)) == ("stale", 0)


def test_a_fork_cannot_hide_behind_a_wrong_old_size() -> None:
    """Two roots for the size that is held are a fork, whatever was asked."""
    assert reason(state(20), request(10, 20, FORK))[0] == "forked"
    assert reason(state(20), request(20, 20, FORK))[0] == "forked"


@pytest.mark.parametrize("old", [0, 20])
def test_a_proof_that_is_too_long_or_too_short(old: int) -> None:
    """One hash more, one fewer."""
    asked = request(old, 40)
    held = state(old)
    assert reason(held, replace(asked, proof=(*asked.proof, EMPTY_ROOT)))[0] == "proof"
    if asked.proof:
        assert reason(held, replace(asked, proof=asked.proof[:-1]))[0] == "proof"


def test_a_proof_with_the_same_checkpoint() -> None:
    """Nothing is to be proved."""
    assert reason(state(20), replace(request(20, 20), proof=(EMPTY_ROOT,)))[0] == "proof"


def test_an_empty_tree_has_one_root() -> None:
    """Another is refused though nothing is held."""
    note = signed(Checkpoint(ORIGIN, 0, bytes(32)), SEED, ORIGIN)
    assert reason(None, Request(0, (), note)) == ("proof", 0)
    assert reason(state(0), Request(0, (), note)) == ("forked", 0)


def test_another_log() -> None:
    """By its origin, before its key."""
    note = signed(replace(LOG.checkpoint(40), origin="other/log"), SEED, ORIGIN)
    assert reason(state(20), Request(20, LOG.consistency(20), note)) == ("origin", 20)


def test_another_key() -> None:
    """Under the same name: a log whose key was changed."""
    note = signed(LOG.checkpoint(40), bytes(32), ORIGIN)
    assert reason(state(20), Request(20, LOG.consistency(20), note)) == ("signature", 20)


def test_a_changed_checkpoint() -> None:
    """The signature is of another size."""
    note = LOG.note(39).replace("\n39\n", "\n40\n")
    assert reason(state(20), Request(20, LOG.consistency(20), note)) == ("signature", 20)


@pytest.mark.parametrize(
    "note", ["", "text\n", f"x\n1\n\n{sign('x' + chr(10) + '1' + chr(10), ORIGIN, SEED)}"]
)
def test_no_checkpoint(note: str) -> None:
    """Signed or not."""
    assert reason(state(20), Request(20, (), note)) == ("malformed", 20)


def test_a_request_as_text() -> None:
    """C2SP's body, with and without a proof."""
    for asked in (request(0, 40), request(17, 40)):
        assert Request.parse(asked.to_text()) == asked


NOTE = LOG.note(40)
NO_REQUESTS = {
    "empty": "",
    "a checkpoint only": NOTE,
    "no old": f"17\n\n{NOTE}",
    "old is no number": f"old x\n\n{NOTE}",
    "old with a zero before it": f"old 017\n\n{NOTE}",
    "old below zero": f"old -1\n\n{NOTE}",
    "no empty line": "old 1\nYWJj\n",
    "a hash that is none": f"old 1\nYWJj\n\n{NOTE}",
    "too many hashes": f"old 1\n{hash_lines([EMPTY_ROOT] * (MAX_PROOF + 1))}\n{NOTE}",
    "too large": f"old 1\n\n{NOTE}{'x' * 100_000}",
}


@pytest.mark.parametrize("body", NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_what_is_no_request(body: str) -> None:
    """Each is refused."""
    with pytest.raises(NoteError):
        Request.parse(body)


@given(st.text(max_size=200) | st.text(max_size=50).map(lambda text: f"old 1\n{text}\n\n{NOTE}"))
def test_any_text_is_a_request_or_an_error(body: str) -> None:
    """And what is a request has one spelling."""
    try:
        asked = Request.parse(body)
    except NoteError:
        return
    assert asked.to_text() == body


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_a_witness_only_ever_moves_forward_on_one_history(
    held: int, old: int, new: int, forked: bool
) -> None:
    """Whatever is asked: what it signs begins with what it held."""
    log = FORK if forked else LOG
    proof = tuple(consistency_proof(log.leaves, old, new)) if 0 < old <= new else ()
    try:
        taken = judge(state(held), Request(old, proof, log.note(new)), KEY)
    except Refused:
        return
    assert taken.size >= held
    assert root(log.leaves[:held]) == root(LOG.leaves[:held])
