"""A guest's receipts: nothing can be taken out, put in, changed or reordered, and the head is the guest's own."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.access_receipts import (
    MAX_RECEIPT_BYTES,
    START,
    Position,
    Receipt,
    ReceiptError,
    check_chain,
    following,
    head_key,
    head_note,
    open_head,
)
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, NoteError, VerifierKey, sign, vkey_of
from tests.protocol.ticketing import RUNTIME_ID

SEED, OTHER_SEED = b"s" * 32, b"o" * 32
VKEY = str(vkey_of(runtime_dns_name(RUNTIME_ID), SEED, COSIGNATURE_V1))
"""As the guest states it as a witness."""
KEY = head_key(RUNTIME_ID, VKEY)


def receipt(after: Position = START, **changed: Any) -> Receipt:
    usual: dict[str, Any] = {
        "runtime_id": RUNTIME_ID,
        "at": 1_800_000_000,
        "ticket": "t",
        "digest": "d",
        "event": "access",
        "token": "j",
        "detail": {"path": "logs/a"},
    }
    return following(after, **{**usual, **changed})


def chain(length: int) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    after = START
    for number in range(length):
        one = receipt(after, at=1_800_000_000 + number)
        made.append(one.document)
        after = one.position
    return made


def checked(receipts: Any, after: Position = START) -> Position:
    return check_chain(receipts, after, runtime_id=RUNTIME_ID)


def test_a_chain_and_its_continuation() -> None:
    """Whole, in pieces, and with nothing new."""
    whole = chain(5)
    end = checked(whole)
    assert end[0] == 5
    assert checked(whole[3:], checked(whole[:3])) == end
    assert checked([], end) == end
    assert checked(json.loads(json.dumps(whole))) == end


@given(st.integers(2, 6), st.data())
def test_no_chain_but_the_whole_one(length: int, data: st.DataObject) -> None:
    """Without one, with one twice, in another order, or with one changed: it is not the chain with this head."""
    whole = chain(length)
    end = checked(whole)
    where = data.draw(st.integers(0, length - 1))
    changed = {**whole[where], "detail": {"path": "notes"}}
    other = data.draw(st.integers(0, length - 1).filter(lambda n: n != where))
    swapped = list(whole)
    swapped[where], swapped[other] = whole[other], whole[where]
    for tried in (
        whole[:where] + whole[where + 1 :],
        [*whole[: where + 1], *whole[where:]],
        [*whole[:where], changed, *whole[where + 1 :]],
        swapped,
    ):
        try:
            assert checked(tried) != end
        except ReceiptError:
            continue


def test_a_number_left_out() -> None:
    """Also where the hashes follow each other: the numbers are what a reader asks by."""
    first = receipt()
    third = Receipt.parse(receipt(first.position).document | {"seq": 3})
    with pytest.raises(ReceiptError, match="3 stands where 2 must"):
        checked([first, third])


def test_another_guests() -> None:
    with pytest.raises(ReceiptError, match="another guest"):
        check_chain(chain(1), START, runtime_id="other")


@pytest.mark.parametrize(
    "bad",
    [
        {"more": 1},
        {"format": "break-glass receipt v2"},
        {"event": "else"},
        {"event": ["access"]},
        {"event": None},
        {"seq": 0},
        {"seq": True},
        {"seq": "1"},
        {"at": -1},
        {"at": 1.5},
        {"previous": "0" * 63},
        {"previous": "G" * 64},
        {"previous": None},
        {"ticket": 7},
        {"token": "x" * 129},
        {"detail": []},
        {"detail": None},
        {"detail": {"bytes": 1.5}},
        {"detail": {"path": "x" * MAX_RECEIPT_BYTES}},
        {"detail": {"path": "\ud800"}},
    ],
    ids=lambda bad: str(bad)[:40],
)
def test_malformed(bad: dict[str, Any]) -> None:
    with pytest.raises(ReceiptError):
        Receipt.parse(receipt().document | bad)


@pytest.mark.parametrize("bad", [None, [], "x", {}])
def test_not_even_a_receipt(bad: Any) -> None:
    with pytest.raises(ReceiptError, match="exactly"):
        checked([bad])


def test_what_is_too_large_is_not_made() -> None:
    with pytest.raises(ReceiptError, match="bytes at most"):
        receipt(detail={"argv": ["x" * MAX_RECEIPT_BYTES]})


# Heads


def test_a_head() -> None:
    """Under the key that the guest states as a witness; also before the first receipt."""
    end = checked(chain(3))
    assert open_head(head_note(RUNTIME_ID, end, SEED), KEY) == end
    assert open_head(head_note(RUNTIME_ID, START, SEED), KEY) == START


def test_a_head_that_is_not_this_guests() -> None:
    end = checked(chain(3))
    note = head_note(RUNTIME_ID, end, SEED)
    for bad in (
        head_note(RUNTIME_ID, end, OTHER_SEED),
        head_note("other", end, SEED),
        note.replace("\n3\n", "\n4\n"),
        note.replace("break-glass", "break-glasz"),
        "",
        note[:-1],
    ):
        with pytest.raises(ReceiptError):
            open_head(bad, KEY)
    with pytest.raises(NoteError, match="another guest"):
        head_key("other", VKEY)


HASH = "A" * 42 + "E="
"""Of 32 bytes."""


@pytest.mark.parametrize(
    "text",
    [
        "3\nAAAA",
        "3",
        f"03\n{HASH}",
        f"-1\n{HASH}",
        f"\u0663\n{HASH}",
        f"0\n{HASH}",
        "3\n!",
        f"3\n{HASH}\nmore",
    ],
)
def test_a_head_of_another_form(text: str) -> None:
    """Even if the guest itself has signed it."""
    name = runtime_dns_name(RUNTIME_ID)

    def signed(body: str) -> str:
        return f"{body}\n{sign(body, name, SEED)}"

    assert open_head(signed(f"{name}/break-glass\n3\n{HASH}\n"), KEY)[0] == 3
    with pytest.raises(ReceiptError):
        open_head(signed(f"{name}/break-glass\n{text}\n"), KEY)
    with pytest.raises(ReceiptError, match="origin"):
        open_head(signed(f"{name}/else\n3\n{HASH}\n"), KEY)


def test_a_cosignature_is_no_head() -> None:
    """The same seed signs checkpoints as a witness, under another algorithm: neither passes for the other."""
    assert VerifierKey.parse(VKEY).key_id != KEY.key_id
    with pytest.raises(ReceiptError):
        open_head(head_note(RUNTIME_ID, START, SEED), VerifierKey.parse(VKEY))


VECTORS: Any = json.loads((Path(__file__).parents[1] / "vectors" / "protocol.json").read_text())


def test_receipts_by_another_implementation() -> None:
    """Node's crypto and no code of the project made these receipts, their hashes and their head."""
    found = VECTORS["receipts"]
    assert [Receipt.parse(one).hash for one in found["receipts"]] == found["hashes"]
    end = checked(found["receipts"])
    name = runtime_dns_name(RUNTIME_ID)
    assert open_head(found["head"], VerifierKey(name, 1, bytes.fromhex(VECTORS["public_key"]))) == end
