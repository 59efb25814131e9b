"""Checkpoints and cosignatures."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.checkpoints import (
    Checkpoint,
    CheckpointError,
    check_cosignature,
    cosign,
    hash_lines,
    opened,
    parse_hash_lines,
    parse_size,
    signed,
)
from protocol.merkle import EMPTY_ROOT, MAX_SIZE, leaf_hash
from protocol.notes import COSIGNATURE_V1, Note, NoteError, Signature, sign, vkey_of
from tests.protocol.logs import KEY, ORIGIN, SEED, TIME, WITNESS, WITNESS_KEY, WITNESS_SEED

CHECKPOINT = Checkpoint(ORIGIN, 5, leaf_hash(b""))
NOTE = signed(CHECKPOINT, SEED, ORIGIN)
LINE = cosign(NOTE, WITNESS, WITNESS_SEED, TIME)
ROOT = CHECKPOINT.text().split("\n")[2]


@given(st.integers(0, MAX_SIZE), st.binary(min_size=32, max_size=32))
def test_what_is_written_is_read(size: int, root: bytes) -> None:
    """Text to checkpoint and back, signed or not."""
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert Checkpoint.parse(checkpoint.text()) == checkpoint
    assert opened(signed(checkpoint, SEED, ORIGIN), KEY) == checkpoint


def test_lines_that_others_add_are_kept() -> None:
    """C2SP's extensions: nothing is understood of them, and the signature covers them."""
    checkpoint = replace(CHECKPOINT, extensions=("more", "and more"))
    assert opened(signed(checkpoint, SEED, ORIGIN), KEY) == checkpoint


NO_CHECKPOINTS = {
    "empty": "",
    "two lines": f"{ORIGIN}\n5\n",
    "no end": f"{ORIGIN}\n5\n{ROOT}",
    "no origin": f"\n5\n{ROOT}\n",
    "an empty line": f"{ORIGIN}\n5\n{ROOT}\n\nmore\n",
    "size with a zero before it": f"{ORIGIN}\n05\n{ROOT}\n",
    "size with a sign": f"{ORIGIN}\n+5\n{ROOT}\n",
    "size below zero": f"{ORIGIN}\n-5\n{ROOT}\n",
    "size with a space": f"{ORIGIN}\n5 \n{ROOT}\n",
    "size in other digits": f"{ORIGIN}\n\u0665\n{ROOT}\n",
    "size too large": f"{ORIGIN}\n{MAX_SIZE + 1}\n{ROOT}\n",
    "size of a thousand digits": f"{ORIGIN}\n{'9' * 1000}\n{ROOT}\n",
    "no base64": f"{ORIGIN}\n5\n{ROOT[:-1]}\n",
    "root too short": f"{ORIGIN}\n5\nYWJj\n",
    "too many lines": f"{ORIGIN}\n5\n{ROOT}\n" + "x\n" * 17,
}


@pytest.mark.parametrize("text", NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_what_is_no_checkpoint(text: str) -> None:
    """Signed or not, it is refused."""
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


def test_another_logs_checkpoint_under_this_logs_key() -> None:
    """A key signs for its own origin only."""
    with pytest.raises(CheckpointError, match="of 'other/log'"):
        opened(signed(replace(CHECKPOINT, origin="other/log"), SEED, ORIGIN), KEY)


def test_a_checkpoint_under_another_key() -> None:
    """Of the same name."""
    with pytest.raises(NoteError, match="no signature"):
        opened(signed(CHECKPOINT, bytes(32), ORIGIN), KEY)


def test_a_signed_text_that_is_no_checkpoint() -> None:
    """The signature is right, and nothing follows from it."""
    text = f"{ORIGIN}\nfive\n{ROOT}\n"
    with pytest.raises(CheckpointError, match="decimal"):
        opened(f"{text}\n{sign(text, ORIGIN, SEED)}", KEY)


def test_a_cosignature_gives_its_time() -> None:
    """The newest, where a witness has signed twice."""
    later = cosign(NOTE, WITNESS, WITNESS_SEED, TIME + 5)
    assert check_cosignature(NOTE + LINE, WITNESS_KEY) == TIME
    assert check_cosignature(NOTE + later + LINE, WITNESS_KEY) == TIME + 5


def test_a_cosignature_under_a_log_with_other_signatures() -> None:
    """Signatures are no part of what is signed."""
    other = signed(CHECKPOINT, bytes(32), ORIGIN)
    assert check_cosignature(other + LINE, WITNESS_KEY) == TIME


def _changed(line: str, at: int) -> str:
    one = Signature.parse(line)
    blob = bytearray(one.blob)
    blob[at] ^= 1
    return str(replace(one, blob=bytes(blob)))


@pytest.mark.parametrize(
    "at", [0, 7, 8, 71], ids=["time, first byte", "time, last byte", "signature", "its end"]
)
def test_a_changed_cosignature(at: int) -> None:
    """Its time is signed too."""
    with pytest.raises(NoteError):
        check_cosignature(NOTE + _changed(LINE, at), WITNESS_KEY)


def test_a_cosignature_of_another_checkpoint() -> None:
    """Moved under this one."""
    other = signed(replace(CHECKPOINT, root=EMPTY_ROOT), SEED, ORIGIN)
    with pytest.raises(NoteError, match="does not fit"):
        check_cosignature(other + LINE, WITNESS_KEY)


def test_a_cosignature_that_is_missing_or_of_a_stranger() -> None:
    """Another witness's does not count."""
    for note in (NOTE, NOTE + cosign(NOTE, WITNESS, bytes(32), TIME)):
        with pytest.raises(CheckpointError, match=f"no cosignature by {WITNESS}"):
            check_cosignature(note, WITNESS_KEY)


def test_a_plain_signature_is_no_cosignature() -> None:
    """Not even by the witness's own seed, and not the log's key for a witness's."""
    plain = sign(CHECKPOINT.text(), WITNESS, WITNESS_SEED)
    with pytest.raises(CheckpointError, match="no cosignature"):
        check_cosignature(NOTE + plain, WITNESS_KEY)
    with pytest.raises(CheckpointError, match="no witness's key"):
        check_cosignature(NOTE, KEY)
    forged = Signature(WITNESS, WITNESS_KEY.key_id, Signature.parse(plain).blob)
    with pytest.raises(NoteError):
        check_cosignature(f"{NOTE}{forged}", WITNESS_KEY)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 63, 71, 73])
def test_a_cosignature_of_another_length(length: int) -> None:
    """8 bytes of time and 64 of signature."""
    whole = Signature.parse(LINE)
    cut = replace(whole, blob=(whole.blob + b"\0" * 8)[:length])
    with pytest.raises(NoteError):
        check_cosignature(f"{NOTE}{cut}", WITNESS_KEY)


@pytest.mark.parametrize("timestamp", [0, -1, 2**63])
def test_a_time_that_cannot_be(timestamp: int) -> None:
    """Nobody signs it."""
    with pytest.raises(CheckpointError, match="time"):
        cosign(NOTE, WITNESS, WITNESS_SEED, timestamp)


def test_a_witness_signs_checkpoints_only() -> None:
    """Not any text."""
    with pytest.raises(CheckpointError):
        cosign(f"hello\n\n{sign('hello' + chr(10), ORIGIN, SEED)}", WITNESS, WITNESS_SEED, TIME)


def test_the_keys_of_a_log_and_a_witness_differ_even_with_one_seed() -> None:
    """By algorithm, hence by id."""
    assert vkey_of(ORIGIN, SEED).key_id != vkey_of(ORIGIN, SEED, COSIGNATURE_V1).key_id
    assert Note.parse(NOTE).of(vkey_of(ORIGIN, SEED, COSIGNATURE_V1)) == []


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=64))
def test_hash_lines(hashes: list[bytes]) -> None:
    """Written and read."""
    assert parse_hash_lines(hash_lines(hashes)) == tuple(hashes)


@pytest.mark.parametrize("text", ["\n", ROOT, f"{ROOT}\n\n", "YWJj\n", "@\n", f"{ROOT}\n" * 65, f" {ROOT}\n"])
def test_what_is_no_proof(text: str) -> None:
    """Each line a hash, each hash a line."""
    with pytest.raises(NoteError):
        parse_hash_lines(text)


@given(st.text(max_size=30))
def test_sizes_have_one_spelling(text: str) -> None:
    """What is read as a size is written so again."""
    try:
        size = parse_size(text)
    except CheckpointError:
        return
    assert str(size) == text
