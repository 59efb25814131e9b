"""What a witness is asked and how it decides (C2SP tlog-witness, ``add-checkpoint``).

A witness remembers one size and root of a log. It takes a newer checkpoint only with proof that it extends
these; so a log that shows two histories needs a witness that has forgotten.
"""

from dataclasses import dataclass
from typing import Literal, Self

from protocol.checkpoints import Checkpoint, CheckpointError, hash_lines, opened, parse_hash_lines, parse_size
from protocol.merkle import EMPTY_ROOT, ProofError, verify_consistency
from protocol.notes import MAX_NOTE_BYTES, Note, NoteError, VerifierKey

MAX_PROOF = 63
MAX_REQUEST_BYTES = MAX_NOTE_BYTES + 64 * MAX_PROOF

Reason = Literal["malformed", "signature", "origin", "smaller", "stale", "forked", "proof"]


class Refused(Exception):
    """A witness does not sign. ``size`` is what it holds, so that an honest log can ask again from there."""

    def __init__(self, reason: Reason, size: int) -> None:
        super().__init__(f"{reason} (the witness holds {size})")
        self.reason: Reason = reason
        self.size = size


@dataclass(frozen=True)
class State:
    """What a witness remembers of a log."""

    size: int
    root: bytes


@dataclass(frozen=True)
class Request:
    """The body of ``add-checkpoint``."""

    old: int
    """The size that the proof starts from: what the log thinks the witness holds."""
    proof: tuple[bytes, ...]
    note: str
    """The signed checkpoint."""

    def to_text(self) -> str:
        """The body as it is sent."""
        return f"old {self.old}\n{hash_lines(self.proof)}\n{self.note}"

    @classmethod
    def parse(cls, body: str) -> Self:
        """Read a body. Raises NoteError: malformed or too large."""
        if len(body) > MAX_REQUEST_BYTES:
            raise CheckpointError(f"a request has {MAX_REQUEST_BYTES} characters at most")
        head, gap, note = body.partition("\n\n")
        first, _, lines = head.partition("\n")
        if not gap or not first.startswith("old "):
            raise CheckpointError(
                "a request has a line with the old size, a proof, an empty line, and a note"
            )
        proof = parse_hash_lines(f"{lines}\n" if lines else "", MAX_PROOF)
        return cls(parse_size(first.removeprefix("old ")), proof, note)


def judge(state: State | None, request: Request, log_vkey: VerifierKey) -> Checkpoint:
    """The checkpoint that a witness with this memory may sign, once it has remembered it durably.

    Raises:
        Refused: it may not, and why.
    """
    held = state.size if state else 0
    checkpoint = _signed(request, log_vkey, held)
    if checkpoint.size < held:
        raise Refused("smaller", held)
    # Before the old size is looked at: whatever was asked, these two notes are two histories.
    if state is not None and checkpoint.size == held and checkpoint.root != state.root:
        raise Refused("forked", held)
    if request.old != held:
        raise Refused("stale", held)
    _check_proof(state, request, checkpoint)
    return checkpoint


def _signed(request: Request, log_vkey: VerifierKey, held: int) -> Checkpoint:
    try:
        note = Note.parse(request.note)
        claimed = Checkpoint.parse(note.text)
    except NoteError:
        raise Refused("malformed", held) from None
    if claimed.origin != log_vkey.name:
        raise Refused("origin", held)
    try:
        return opened(note, log_vkey)
    except NoteError:
        raise Refused("signature", held) from None


def _check_proof(state: State | None, request: Request, checkpoint: Checkpoint) -> None:
    if state is None or state.size == 0:  # nothing to be consistent with: no proof may be given
        if request.proof or (checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT):
            raise Refused("proof", 0)
        return
    try:
        verify_consistency(state.size, checkpoint.size, request.proof, state.root, checkpoint.root)
    except ProofError:
        raise Refused("proof", state.size) from None
