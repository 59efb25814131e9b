"""Names in receipts: what was served, byte for byte, and nothing in them is hidden."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import CanonicalError, canonical
from protocol.receipt_texts import ESCAPED, exact, written

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def test_an_ordinary_name_stays_as_it_is() -> None:
    for path in ("logs/today.txt", "", "Größe/a b", "back\\slash", 'a"b', "日本"):
        assert written({"path": path, "offset": 3}) == {"path": path, "offset": 3}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("logs/e\u0301.txt", "logs/e\\u0301.txt"),
        ("logs/\u00e9e\u0301", "logs/\\u00e9e\\u0301"),
        ("\u212a", "\\u212a"),
        ("a\u202etxt.exe", "a\\u202etxt.exe"),
        ("a\u200bb", "a\\u200bb"),
        ("a\nb", "a\\nb"),
        ("a\x7f", "a\\u007f"),
        ("\\u0301e\u0301", "\\\\u0301e\\u0301"),
    ],
)
def test_what_would_change_or_hide_is_escaped(path: str, told: str) -> None:
    assert written({"path": path}) == {"path": told, ESCAPED: ["path"]}


def test_words_are_escaped_together() -> None:
    told = written({"argv": ["a\\b", "\u212a"], "cwd": "é"})
    assert told == {"argv": ["a\\\\b", "\\u212a"], "cwd": "é", ESCAPED: ["argv"]}
    assert exact(told, "argv") == ["a\\b", "\u212a"]


@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_it_comes_back_byte_for_byte(path: str, argv: list[str]) -> None:
    """And the canonical form changes nothing of it: two names never become one."""
    about: dict[str, Any] = {"path": path, "argv": argv}
    told = written(about)
    assert {name: exact(told, name) for name in about} == about
    for text in (told["path"], *told["argv"]):
        assert json.loads(canonical([text])) == [text]


def test_what_is_no_escape_is_refused() -> None:
    with pytest.raises(json.JSONDecodeError):
        exact({"path": "a\\", ESCAPED: ["path"]}, "path")
    assert exact({"path": "a\\", ESCAPED: "path"}, "path") == "a\\"
    assert exact({}, "path") is None


def test_half_a_letter_is_no_text_and_gets_no_receipt() -> None:
    with pytest.raises(CanonicalError):
        canonical(written({"argv": ["\ud800", "e\u0301"]}))
