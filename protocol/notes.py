"""Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature.

A signature line is ``— name base64(key id ‖ signature)``. A key id is the first 4 bytes of
SHA-256(name ‖ "\\n" ‖ algorithm ‖ public key); it finds a key, it does not secure one.
"""

import base64
import binascii
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from secrets import token_bytes
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519: Final = 1
COSIGNATURE_V1: Final = 4
ALGORITHMS: Final = frozenset({ED25519, COSIGNATURE_V1})
MAX_NOTE_BYTES = 64 * 1024
MAX_SIGNATURES = 100
MAX_NAME_CHARACTERS = 255
KEY_BYTES = 32
KEY_ID_BYTES = 4
_MARK = "\u2014 "
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class NoteError(ValueError):
    """A note or key that must not be believed; the message says what is wrong with it."""


@dataclass(frozen=True)
class VerifierKey:
    """Somebody's public key, under the name that they sign with."""

    name: str
    algorithm: int
    """1: Ed25519 over the text. 4: cosignature/v1, for witnesses."""
    key: bytes
    """32 bytes."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.algorithm not in ALGORITHMS or len(self.key) != KEY_BYTES:
            raise NoteError("the verifier key is of a kind that is not known here")

    @property
    def key_id(self) -> bytes:
        """4 bytes that find the key among signatures."""
        return sha256(self.name.encode() + b"\n" + bytes([self.algorithm]) + self.key).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encode(bytes([self.algorithm]) + self.key)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``name+key id+base64``. Raises NoteError: malformed, or the id is not that of the key."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        data = decode(encoded, "the verifier key")
        if len(data) != KEY_BYTES + 1:
            raise NoteError("the verifier key has the wrong length")
        key = cls(name, data[0], data[1:])
        if key_id != key.key_id.hex():
            raise NoteError("the verifier key's id does not fit its name and key")
        return key


@dataclass(frozen=True)
class Signature:
    """One signature line."""

    name: str
    key_id: bytes
    blob: bytes
    """What follows the key id: 64 bytes of Ed25519; a cosignature has 8 bytes of time before them."""

    def __str__(self) -> str:
        return f"{_MARK}{self.name} {encode(self.key_id + self.blob)}\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """From a line, with or without its end. Raises NoteError."""
        if len(line) > MAX_NOTE_BYTES or not line.startswith(_MARK):
            raise NoteError("a signature line must begin with an em dash and a space")
        name, _, encoded = line.removesuffix("\n").removeprefix(_MARK).partition(" ")
        _check_name(name)
        data = decode(encoded, "a signature")
        if len(data) <= KEY_ID_BYTES:
            raise NoteError("a signature is too short")
        return cls(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


@dataclass(frozen=True)
class Note:
    """A text and the signatures under it. Parsing proves nothing: see :func:`verify`."""

    text: str
    """With the line end that it ends in."""
    signatures: tuple[Signature, ...] = ()

    @classmethod
    def parse(cls, note: bytes | str) -> Self:
        """Read a note. Raises NoteError: too large, not UTF-8, control characters, or no signature lines."""
        whole = _as_text(note)
        text, gap, lines = whole.rpartition("\n\n")
        if not gap or not lines.endswith("\n"):
            raise NoteError("a note has a text, an empty line, and signature lines")
        rows = lines.removesuffix("\n").split("\n")
        if len(rows) > MAX_SIGNATURES:
            raise NoteError(f"a note has {MAX_SIGNATURES} signatures at most")
        return cls(text + "\n", tuple(Signature.parse(row) for row in rows))

    def to_text(self) -> str:
        """The note as it is stored and sent."""
        return f"{self.text}\n{''.join(map(str, self.signatures))}"

    def signed_also(self, *lines: str) -> Self:
        """The same note with more signature lines; one that it has is not added again. Raises NoteError."""
        more = [Signature.parse(line) for line in lines]
        return replace(self, signatures=tuple(dict.fromkeys((*self.signatures, *more))))

    def of(self, key: VerifierKey) -> list[Signature]:
        """The signatures that say they are by this key."""
        return [one for one in self.signatures if one.name == key.name and one.key_id == key.key_id]


def new_key(name: str, algorithm: int = ED25519) -> tuple[bytes, VerifierKey]:
    """A new secret seed (32 bytes) and its public half."""
    seed = token_bytes(KEY_BYTES)
    return seed, vkey_of(name, seed, algorithm)


def vkey_of(name: str, seed: bytes, algorithm: int = ED25519) -> VerifierKey:
    """The public half of a seed under a name. Raises NoteError: the name or the seed is not usable."""
    return VerifierKey(name, algorithm, _private(seed).public_key().public_bytes_raw())


def sign(text: str, name: str, seed: bytes) -> str:
    """The signature line (with its end) of ``name`` under a text, which must end in a line end."""
    _check_text(text)
    return str(Signature(name, vkey_of(name, seed).key_id, sign_bytes(text.encode(), seed)))


def sign_bytes(message: bytes, seed: bytes) -> bytes:
    """64 bytes of Ed25519 over a message."""
    return _private(seed).sign(message)


def verify(note: Note | bytes | str, vkey: VerifierKey) -> bytes:
    """The text that the holder of this key signed.

    Raises:
        NoteError: the note is malformed, has no signature by this key, or one that does not fit.
    """
    opened = note if isinstance(note, Note) else Note.parse(note)
    if vkey.algorithm != ED25519:
        raise NoteError(f"{vkey.name} is a witness's key, which signs no plain note")
    text = opened.text.encode()
    found = opened.of(vkey)
    if not found:
        raise NoteError(f"no signature by {vkey.name}")
    for one in found:
        check_bytes(vkey, text, one.blob)
    return text


def check_bytes(vkey: VerifierKey, message: bytes, signature: bytes) -> None:
    """Check 64 bytes of Ed25519. Raises NoteError."""
    try:
        Ed25519PublicKey.from_public_bytes(vkey.key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise NoteError(f"the signature by {vkey.name} does not fit") from None


def encode(data: bytes) -> str:
    """Base64 with padding, as C2SP writes bytes."""
    return base64.b64encode(data).decode()


def decode(text: str, what: str) -> bytes:
    """The bytes of base64 text, of which there is only one spelling. Raises NoteError naming ``what``."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError(f"{what} is not base64") from None
    if encode(data) != text:
        raise NoteError(f"{what} is not base64")
    return data


def _private(seed: bytes) -> Ed25519PrivateKey:
    if len(seed) != KEY_BYTES:
        raise NoteError("a seed is 32 bytes long")
    return Ed25519PrivateKey.from_private_bytes(seed)


def _as_text(note: bytes | str) -> str:
    try:
        raw = note.encode() if isinstance(note, str) else note
        if len(raw) > MAX_NOTE_BYTES:
            raise NoteError(f"a note has {MAX_NOTE_BYTES} bytes at most")
        whole = raw.decode()
    except UnicodeError:
        raise NoteError("a note is UTF-8 text") from None
    if _CONTROL.search(whole):
        raise NoteError("a note holds no control characters")
    return whole


def _check_text(text: str) -> None:
    if not text.endswith("\n") or _CONTROL.search(text):
        raise NoteError("a note's text ends in a line end and holds no control characters")


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise NoteError("a key's name is 1 to 255 characters without spaces or plus signs")
