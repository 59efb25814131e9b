"""Receipts: what one proves, and each way in which one can lie."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import canonical
from protocol.merkle import EMPTY_ROOT, inclusion_proof, root
from protocol.notes import NoteError, vkey_of
from protocol.personal import commitment
from protocol.receipts import MAX_EVENT_BYTES, MAX_RECEIPT_BYTES, Opening, Proof, Receipt, ReceiptError, check
from tests.protocol.logs import KEY, ORIGIN, TIME, WITNESS, WITNESS_KEY, Log

SALT, OTHER_SALT = bytes(range(32)), bytes(range(1, 33))
ADDRESS = Opening(commitment(SALT, "address", "192.0.2.7").hex(), SALT, "address", "192.0.2.7")
NAME = Opening(commitment(OTHER_SALT, "name", "Zoë").hex(), OTHER_SALT, "name", "Zoë")
TYPED = Opening(commitment(SALT, "name", "Eve").hex(), SALT, "name", "Eve")
"""A stranger may write any text into an entry's data, so also one that they can open as they like."""


def event(n: int) -> str:
    document: dict[str, Any] = {"version": 2, "n": n, "data": {"typed": [{"text": TYPED.commitment}]}}
    personal = {"address": ADDRESS.commitment, "actor": NAME.commitment, "target": NAME.commitment}
    return canonical({**document, "personal": personal}).decode()


LOG = Log([event(n) for n in range(30)])
RECEIPT = LOG.receipt(17, (ADDRESS, NAME))


def test_a_receipt_proves_its_event() -> None:
    """Place, tree, event, personal data, witness."""
    checked = check(Receipt.parse(RECEIPT.to_json()), KEY, [WITNESS_KEY])
    assert (checked.index, checked.size) == (17, 30)
    assert checked.checkpoint == LOG.checkpoint()
    assert checked.event == json.loads(event(17))
    assert [(role, one.value) for role, one in checked.roles] == [
        ("address", "192.0.2.7"),
        ("actor, target", "Zoë"),
    ]
    assert checked.cosigned == {WITNESS: TIME}


@pytest.mark.parametrize("personal", ["x", 7, None, ["x"], {"actor": ["x"]}, {"actor": None}])
def test_an_event_whose_personal_is_none(personal: Any) -> None:
    """Nothing can be opened in it."""
    log = Log([canonical({"personal": personal}).decode()])
    assert check(log.receipt(0), KEY).roles == []
    with pytest.raises(ReceiptError, match="holds no commitment"):
        check(log.receipt(0, (replace(ADDRESS, commitment="x"),)), KEY)


def test_an_error_obeys_nothing() -> None:
    """It is shown in a terminal; the kind is whatever the file says."""
    for lie in (replace(ADDRESS, kind="\x1b[2J"), replace(TYPED, kind="\x1b[2J")):
        with pytest.raises(ReceiptError) as caught:
            check(replace(RECEIPT, personal=(lie,)), KEY)
        assert str(caught.value).isprintable()


def test_erased_personal_data_leave_the_receipt_valid() -> None:
    """The commitments stay where they are; nothing opens them."""
    assert check(replace(RECEIPT, personal=()), KEY).personal == ()


def test_a_receipt_is_one_line() -> None:
    """So that many make an export."""
    assert "\n" not in RECEIPT.to_json()


@pytest.mark.parametrize("index", range(30))
def test_every_entry_has_a_receipt(index: int) -> None:
    """From first to last."""
    assert check(LOG.receipt(index), KEY).event["n"] == index


def _proof(**values: Any) -> Receipt:
    return replace(RECEIPT, proof=replace(RECEIPT.proof, **values))


FORK = Log([event(n + 1) for n in range(30)])
LIES: dict[str, Receipt] = {
    "another event of the log": replace(RECEIPT, event=event(16)),
    "a changed event": replace(RECEIPT, event=event(17).replace("17", "71")),
    "a space in the event": replace(RECEIPT, event=event(17).replace('"n":', '"n": ')),
    "no event": replace(RECEIPT, event=""),
    "a lone surrogate": replace(RECEIPT, event='"\ud800"'),
    "one index more": _proof(index=18),
    "one index less": _proof(index=16),
    "index is the size": _proof(index=30),
    "no hashes": _proof(hashes=()),
    "a hash too many": _proof(hashes=(*RECEIPT.proof.hashes, EMPTY_ROOT)),
    "a hash too few": _proof(hashes=RECEIPT.proof.hashes[:-1]),
    "a short hash": _proof(hashes=(b"short", *RECEIPT.proof.hashes[1:])),
    "a valid proof of another entry": replace(RECEIPT, proof=LOG.receipt(16).proof),
    "a smaller tree's checkpoint": _proof(note=LOG.note(29)),
    "another tree's checkpoint": _proof(note=FORK.note()),
    "a changed checkpoint": _proof(note=RECEIPT.proof.note.replace("\n30\n", "\n31\n")),
    "no checkpoint": _proof(note=""),
    "another salt": replace(RECEIPT, personal=(replace(ADDRESS, salt=OTHER_SALT),)),
    "another value": replace(RECEIPT, personal=(replace(ADDRESS, value="192.0.2.8"),)),
    "another kind": replace(RECEIPT, personal=(replace(ADDRESS, kind="name"),)),
    "a datum that the event does not hold": replace(
        RECEIPT,
        personal=(Opening(commitment(SALT, "name", "Mallory").hex(), SALT, "name", "Mallory"),),
    ),
    "a datum whose commitment stands elsewhere in the event": replace(RECEIPT, personal=(TYPED,)),
    "a commitment that is none": replace(RECEIPT, personal=(replace(ADDRESS, commitment="n"),)),
}


@pytest.mark.parametrize("receipt", LIES.values(), ids=LIES)
def test_a_lie(receipt: Receipt) -> None:
    """Each is found."""
    check(RECEIPT, KEY)
    with pytest.raises(ReceiptError):
        check(receipt, KEY)


def test_another_logs_key() -> None:
    """By seed, and by name."""
    for key in (vkey_of(ORIGIN, bytes(32)), vkey_of("other/log", bytes(range(32)))):
        with pytest.raises(ReceiptError, match="no signature"):
            check(RECEIPT, key)


def test_a_witness_that_has_not_signed() -> None:
    """All that are asked for must have."""
    stranger = vkey_of("stranger", bytes(32), algorithm=4)
    with pytest.raises(ReceiptError, match="no cosignature by stranger"):
        check(RECEIPT, KEY, [WITNESS_KEY, stranger])


@pytest.mark.parametrize(
    "text", ['{"b":1,"a":2}', '{"a":1.5}', "[1]", "7", "{", '{"a":"e\u0301"}', '{"a":1}\n', "[" * 9000]
)
def test_a_leaf_that_is_no_event(text: str) -> None:
    """It is in the log, and is still refused: two readers could read it differently."""
    log = Log([text])
    with pytest.raises(ReceiptError, match=r"canonical|2\^53"):
        check(log.receipt(0), KEY)


def test_an_event_that_is_too_large() -> None:
    """Before it is read."""
    log = Log([canonical({"a": "x" * MAX_EVENT_BYTES}).decode()])
    with pytest.raises(ReceiptError, match="60000 bytes"):
        check(log.receipt(0), KEY)


def _document(**values: Any) -> str:
    document = {**json.loads(RECEIPT.to_json()), **values}
    return json.dumps({name: value for name, value in document.items() if value is not None})


OPENING = ADDRESS.to_dict()
NO_RECEIPTS = {
    "empty": "",
    "a list": "[]",
    "deep": "[" * 100_000,
    "another format": _document(format="portal receipt v2"),
    "no format": _document(format=None),
    "no event": _document(event=None),
    "event is no text": _document(event={"n": 1}),
    "no proof": _document(proof=None),
    "proof of another format": _document(proof=RECEIPT.proof.to_text().replace("@v1", "@v2")),
    "index is no number": _document(proof=RECEIPT.proof.to_text().replace("index 17", "index x")),
    "no index": _document(proof=RECEIPT.proof.to_text().replace("index 17\n", "")),
    "proof is cut short": _document(proof=RECEIPT.proof.to_text()[:60]),
    "a hash that is none": _document(proof=RECEIPT.proof.to_text().replace("index 17\n", "index 17\nYWJj\n")),
    "proof too large": _document(proof=RECEIPT.proof.to_text() + "x" * 200_000),
    "personal is no list": _document(personal={}),
    "a datum is no object": _document(personal=["x"]),
    "too many personal data": _document(personal=[OPENING] * 101),
    "a short salt": _document(personal=[{**OPENING, "salt": "00"}]),
    "salt is no hex": _document(personal=[{**OPENING, "salt": "zz" * 32}]),
    "value is no text": _document(personal=[{**OPENING, "value": 7}]),
    "too large": " " * MAX_RECEIPT_BYTES + RECEIPT.to_json(),
}


@pytest.mark.parametrize("text", NO_RECEIPTS.values(), ids=NO_RECEIPTS)
def test_what_is_no_receipt(text: str) -> None:
    """Each is refused with a reason."""
    with pytest.raises(ReceiptError):
        Receipt.parse(text)


def test_bytes_that_are_no_text() -> None:
    """Not even JSON."""
    with pytest.raises(ReceiptError):
        Receipt.parse(b"\xff\xfe")


def test_a_proof_with_an_applications_own_line() -> None:
    """C2SP allows one; ours has none, and does not mind."""
    text = RECEIPT.proof.to_text().replace("index 17", "extra YWJj\nindex 17")
    assert Proof.parse(text) == RECEIPT.proof


@given(st.text(max_size=200))
def test_any_text_is_a_proof_or_an_error(text: str) -> None:
    """And nothing else comes out."""
    for candidate in (text, f"c2sp.org/tlog-proof@v1\nindex {text}"):
        try:
            assert Proof.parse(candidate).to_text() == candidate
        except NoteError:
            continue


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_a_receipt_or_an_error(document: Any) -> None:
    """And nothing else comes out."""
    for candidate in (
        json.dumps(document),
        _document(personal=document or 1),
        _document(event=document or 1),
    ):
        try:
            Receipt.parse(candidate)
        except ReceiptError:
            continue


def test_one_leaf_is_its_own_proof() -> None:
    """A log of one entry needs no hashes."""
    log = Log([event(0)])
    assert inclusion_proof(log.leaves, 0, 1) == []
    assert root(log.leaves) == log.leaves[0]
    assert check(Receipt.parse(log.receipt(0).to_json()), KEY).size == 1


CHANGES: dict[str, Callable[[], bytes]] = {
    "salt": lambda: commitment(OTHER_SALT, "name", "Ann"),
    "kind": lambda: commitment(SALT, "address", "Ann"),
    "value": lambda: commitment(SALT, "name", "Anne"),
    "where one ends and the other begins": lambda: commitment(SALT, 'name","value":"A', "nn"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_commitment_binds(change: Callable[[], bytes]) -> None:
    """Each of its parts."""
    assert change() != commitment(SALT, "name", "Ann")


def test_a_commitment_to_text_in_another_form_is_the_same() -> None:
    """NFC, as everywhere in a leaf."""
    assert commitment(SALT, "name", "e\u0301") == commitment(SALT, "name", "é")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_salt_of_another_length(length: int) -> None:
    """A short one could be guessed."""
    with pytest.raises(ValueError, match="32 bytes"):
        commitment(bytes(length), "name", "Ann")
