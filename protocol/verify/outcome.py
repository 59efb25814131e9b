"""What a verification ends in."""

from collections.abc import Collection
from dataclasses import dataclass, field

from protocol.checkpoints import Checkpoint, check_cosignature, opened
from protocol.notes import Note, NoteError, VerifierKey


class VerificationError(Exception):
    """What was given does not verify; the message says where and why."""


@dataclass(frozen=True)
class Verified:
    """What has been proved."""

    entries: int
    """Entries whose bytes were hashed."""
    checkpoint: Checkpoint
    cosigned: dict[str, int] = field(default_factory=dict)
    """Witnesses that were asked for, with the time of their cosignature in seconds since 1970."""


@dataclass(frozen=True)
class Keys:
    """Whom the verifier believes."""

    log: VerifierKey
    witnesses: Collection[VerifierKey] = ()
    """All of these must have cosigned each checkpoint."""

    def opened(self, note: str | bytes) -> tuple[Checkpoint, dict[str, int]]:
        """A checkpoint, and when each witness cosigned it. Raises VerificationError."""
        try:
            parsed = Note.parse(note)
            times = {witness.name: check_cosignature(parsed, witness) for witness in self.witnesses}
            return opened(parsed, self.log), times
        except NoteError as error:
            raise VerificationError(f"the checkpoint: {error}") from None
