import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import MAX_INTEGER, CanonicalError, canonical

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé", max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(documents)
def test_same_document_same_bytes(document: object) -> None:
    """Reading the canonical bytes and writing them again changes nothing."""
    once = canonical(document)
    assert canonical(json.loads(once)) == once


def nested(levels: int) -> object:
    """So many lists and objects in one another."""
    document: object = 0
    for level in range(levels):
        document = [document] if level % 2 else {"a": document}
    return document


def test_the_deepest() -> None:
    assert json.loads(canonical(nested(32))) == nested(32)


def test_known_answer() -> None:
    """Keys are sorted, nothing is spaced, text is NFC and not escaped."""
    assert canonical({"b": [1, True, None], "a": "e\u0301"}) == '{"a":"é","b":[1,true,null]}'.encode()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"a": 1.0}, "$.a: float"),
        ({1: "a"}, "a key is not text"),
        ([2**53], "$[0]: integer"),
        ({"é": 1, "e\u0301": 2}, "two keys"),
        ("\ud800", "Unicode"),
        ({"a": b"bytes"}, "$.a: bytes"),
        (nested(33), "levels"),
        (nested(10_000), "levels"),
    ],
)
def test_what_has_no_canonical_form_is_refused(document: object, says: str) -> None:
    """The error names the place."""
    with pytest.raises(CanonicalError, match=says.replace("$", r"\$").replace("[", r"\[")):
        canonical(document)
