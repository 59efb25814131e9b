"""The tree's signed head (C2SP tlog-checkpoint), and witnesses' lines under it (C2SP tlog-cosignature)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from protocol.merkle import HASH_BYTES, MAX_SIZE
from protocol.notes import (
    COSIGNATURE_V1,
    Note,
    NoteError,
    Signature,
    VerifierKey,
    check_bytes,
    decode,
    encode,
    sign,
    sign_bytes,
    verify,
    vkey_of,
)

MAX_EXTENSIONS = 16
MAX_PROOF = 64
"""Hashes in the longest proof that a tree of 2^63 leaves can have."""
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_TIME_BYTES = 8
_MAX_TIME = 2**63 - 1


class CheckpointError(NoteError):
    """A checkpoint or a cosignature that must not be believed."""


@dataclass(frozen=True)
class Checkpoint:
    """How many leaves a log has, and their root."""

    origin: str
    """The log's name; also the name of its key."""
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()
    """Further lines, of which nothing is understood here. Our log writes none."""

    def text(self) -> str:
        """What is signed."""
        lines = (self.origin, str(self.size), encode(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a checkpoint's text. Raises CheckpointError: malformed."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() or not all(lines) or len(lines) > 3 + MAX_EXTENSIONS:
            raise CheckpointError("a checkpoint has an origin, a size and a root, a line each")
        root = decode(lines[2], "the checkpoint's root")
        if len(root) != HASH_BYTES:
            raise CheckpointError("the checkpoint's root is not 32 bytes long")
        return cls(lines[0], parse_size(lines[1]), root, tuple(lines[3:]))


def parse_size(text: str) -> int:
    """A size or index in its one spelling. Raises CheckpointError."""
    if not _NUMBER.fullmatch(text) or int(text) > MAX_SIZE:
        raise CheckpointError("a size is a decimal number without leading zeroes, below 2^63")
    return int(text)


def signed(checkpoint: Checkpoint, seed: bytes, name: str) -> str:
    """The note: the checkpoint under the signature of ``name``."""
    text = checkpoint.text()
    return f"{text}\n{sign(text, name, seed)}"


def opened(note: Note | bytes | str, vkey: VerifierKey) -> Checkpoint:
    """The checkpoint that this log signed.

    Raises:
        NoteError: malformed, or not signed by this key.
        CheckpointError: the signed text is no checkpoint, or another log's.
    """
    checkpoint = Checkpoint.parse(verify(note, vkey).decode())
    if checkpoint.origin != vkey.name:
        raise CheckpointError(f"the checkpoint is of {checkpoint.origin!r}, and the key is of {vkey.name!r}")
    return checkpoint


def cosign(note: Note | bytes | str, witness_name: str, seed: bytes, timestamp: int) -> str:
    """A witness's signature line (with its end) under a checkpoint. ``timestamp``: whole seconds since 1970.

    Raises:
        NoteError: the note is no checkpoint.
    """
    text = _as_note(note).text
    Checkpoint.parse(text)
    if not 0 < timestamp <= _MAX_TIME:
        raise CheckpointError("a cosignature's time is whole seconds after 1970")
    signature = sign_bytes(_cosigned(text, timestamp), seed)
    vkey = vkey_of(witness_name, seed, COSIGNATURE_V1)
    return str(Signature(witness_name, vkey.key_id, timestamp.to_bytes(_TIME_BYTES, "big") + signature))


def check_cosignature(note: Note | bytes | str, witness_vkey: VerifierKey) -> int:
    """When this witness signed the checkpoint: seconds since 1970, the newest if it signed more than once.

    Raises:
        NoteError: no cosignature by this witness, or one that does not fit.
    """
    if witness_vkey.algorithm != COSIGNATURE_V1:
        raise CheckpointError(f"{witness_vkey.name} is no witness's key")
    whole = _as_note(note)
    found = whole.of(witness_vkey)
    if not found:
        raise CheckpointError(f"no cosignature by {witness_vkey.name}")
    return max(_check_one(whole.text, one, witness_vkey) for one in found)


def hash_lines(hashes: Sequence[bytes]) -> str:
    """A proof as C2SP writes it: one line of base64 for each hash."""
    return "".join(f"{encode(one)}\n" for one in hashes)


def parse_hash_lines(text: str, limit: int = MAX_PROOF) -> tuple[bytes, ...]:
    """A proof's hashes; none for empty text. Raises CheckpointError: malformed, or too many."""
    if not text:
        return ()
    lines = text.split("\n")
    if lines.pop() or len(lines) > limit:
        raise CheckpointError(f"a proof has a line for each hash, {limit} at most")
    hashes = tuple(decode(line, "a hash of the proof") for line in lines)
    if any(len(one) != HASH_BYTES for one in hashes):
        raise CheckpointError("a hash of the proof is not 32 bytes long")
    return hashes


def _check_one(text: str, signature: Signature, vkey: VerifierKey) -> int:
    timestamp = int.from_bytes(signature.blob[:_TIME_BYTES], "big")
    if not 0 < timestamp <= _MAX_TIME:
        raise CheckpointError(f"the cosignature by {vkey.name} has no time")
    check_bytes(vkey, _cosigned(text, timestamp), signature.blob[_TIME_BYTES:])
    return timestamp


def _cosigned(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def _as_note(note: Note | bytes | str) -> Note:
    return note if isinstance(note, Note) else Note.parse(note)
