"""Signed notes: what is read, what is believed, and what is neither."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.notes import (
    COSIGNATURE_V1,
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Note,
    NoteError,
    Signature,
    VerifierKey,
    new_key,
    sign,
    verify,
    vkey_of,
)

NAME, SEED = "portal.test/log", bytes(range(32))
KEY = vkey_of(NAME, SEED)
TEXT = "first line\n\nlast line é\n"
LINE = sign(TEXT, NAME, SEED)
SHORT = "x\n"
NOTE = f"{TEXT}\n{LINE}"

names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="+"),
    min_size=1,
    max_size=40,
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.just("\n"), max_size=100).map(
    lambda text: text + "\n"
)


@given(names, texts, st.binary(min_size=32, max_size=32))
def test_what_is_signed_is_read_and_believed(name: str, text: str, seed: bytes) -> None:
    """Any name, any text; and the key survives being written down."""
    note = f"{text}\n{sign(text, name, seed)}"
    key = VerifierKey.parse(str(vkey_of(name, seed)))
    assert verify(note, key).decode() == text
    assert Note.parse(note).to_text() == note


@given(st.text(max_size=300) | st.binary(max_size=300))
def test_anything_else_is_an_error_of_ours(junk: str | bytes) -> None:
    """Whatever comes in, nothing but NoteError comes out."""
    for read in (
        lambda: Note.parse(junk),
        lambda: VerifierKey.parse(str(junk)),
        lambda: Signature.parse(str(junk)),
    ):
        try:
            read()
        except NoteError:
            continue


@given(st.integers(0, len(NOTE) - 1), st.characters(codec="utf-8"))
def test_no_single_character_can_be_changed(at: int, character: str) -> None:
    """Anywhere in text, name or signature."""
    changed = NOTE[:at] + character + NOTE[at + 1 :]
    if changed == NOTE:
        return
    with pytest.raises(NoteError):
        verify(changed, KEY)


def test_a_new_key_signs() -> None:
    """Under its own name, and no other seed's."""
    seed, key = new_key("someone")
    assert verify(f"x\n\n{sign(SHORT, 'someone', seed)}", key) == b"x\n"
    with pytest.raises(NoteError, match="no signature by someone"):
        verify(f"x\n\n{sign(SHORT, 'someone', SEED)}", key)


def test_signatures_of_strangers_do_not_matter() -> None:
    """As C2SP asks: before or after, whatever they hold."""
    stranger = Signature("stranger", b"abcd", b"no signature at all")
    assert verify(f"{TEXT}\n{stranger}{LINE}{stranger}", KEY) == TEXT.encode()


def test_a_key_of_the_same_name_is_another_key() -> None:
    """The id tells them apart."""
    with pytest.raises(NoteError, match="no signature by"):
        verify(NOTE, vkey_of(NAME, bytes(32)))


def test_a_second_signature_that_does_not_fit_is_not_overlooked() -> None:
    """A known key with a wrong signature condemns the note, even beside a right one."""
    wrong = Signature(NAME, KEY.key_id, bytes(64))
    with pytest.raises(NoteError, match="does not fit"):
        verify(f"{NOTE}{wrong}", KEY)


def test_a_witness_signs_no_plain_note() -> None:
    """Its key is for another message."""
    with pytest.raises(NoteError, match="witness"):
        verify(NOTE, vkey_of(NAME, SEED, COSIGNATURE_V1))


def test_the_same_line_is_added_once() -> None:
    """And a new one after the others."""
    note = Note.parse(NOTE)
    other = sign(TEXT, "other", bytes(32))
    assert note.signed_also(LINE, other, other).to_text() == NOTE + other


def _b64(algorithm: int, length: int) -> str:
    return b64encode(bytes([algorithm]) + bytes(length)).decode()


NO_NOTES = {
    "empty": "",
    "no signatures": "text\n",
    "no empty line": f"text\n{LINE}",
    "nothing after the empty line": "text\n\n",
    "no line end": NOTE[:-1],
    "an empty line at the end": NOTE + "\n",
    "hyphen for dash": NOTE.replace("— ", "- "),
    "no name": f"text\n\n— {LINE.split()[2]}\n",
    "a plus in the name": NOTE.replace("portal.test/log", "portal+test/log"),
    "two spaces": NOTE.replace("/log ", "/log  "),
    "no base64": NOTE.replace(LINE.split()[2], "@@@@"),
    "base64 spelled otherwise": NOTE.replace("=\n", "\n"),
    "four bytes": "text\n\n— name YWJjZA==\n",
    "a carriage return": NOTE.replace("first line", "first\rline"),
    "a null": NOTE.replace("first line", "first\0line"),
    "a tab": NOTE.replace("first line", "first\tline"),
    "a lone surrogate": NOTE.replace("first line", "first\ud800line"),
    "too large": "x" * MAX_NOTE_BYTES + "\n\n" + LINE,
    "too many signatures": f"{TEXT}\n" + LINE * (MAX_SIGNATURES + 1),
}


@pytest.mark.parametrize("note", NO_NOTES.values(), ids=NO_NOTES)
def test_what_is_no_note(note: str) -> None:
    """Each is refused, and not by a crash."""
    with pytest.raises(NoteError):
        Note.parse(note)


def test_base64_has_one_spelling() -> None:
    """Bits that mean nothing are nought: or the same signature would be two lines."""
    encoded = LINE.split()[2]
    last = encoded[-2]
    assert encoded.endswith(f"{last}=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(last) | 1]
    assert other != last
    with pytest.raises(NoteError, match="not base64"):
        Note.parse(NOTE.replace(encoded, f"{encoded[:-2]}{other}="))


def test_bytes_that_are_no_text() -> None:
    """UTF-8 only."""
    with pytest.raises(NoteError, match="UTF-8"):
        Note.parse(b"\xff" + NOTE.encode())


NO_KEYS = {
    "empty": "",
    "a name": "name",
    "no key": "name+00000000",
    "another id": str(KEY).replace(KEY.key_id.hex(), "00000000"),
    "another name": f"x{KEY}",
    "id in capitals": str(KEY).replace(KEY.key_id.hex(), KEY.key_id.hex().upper()),
    "a short key": f"name+00000000+{_b64(1, 31)}",
    "another algorithm": f"name+00000000+{_b64(2, 32)}",
    "a space in the name": f"a b{str(KEY).removeprefix(NAME)}",
}


@pytest.mark.parametrize("text", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key(text: str) -> None:
    """Each is refused."""
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    ("text", "name", "seed"),
    [
        ("no end", "n", SEED),
        ("a\tb\n", "n", SEED),
        ("a\n", "n n", SEED),
        ("a\n", "n", b"short"),
        ("a\n", "", SEED),
    ],
)
def test_what_cannot_be_signed(text: str, name: str, seed: bytes) -> None:
    """Before a signature exists that nobody can check."""
    with pytest.raises(NoteError):
        sign(text, name, seed)
