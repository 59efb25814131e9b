"""What a witness answers, wherever it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Signature lines, or a reason and what the witness holds. Nothing of it is believed unchecked."""

    lines: str = ""
    reason: str = ""
    """One of :data:`protocol.witnessing.Reason`; empty if it signed."""
    size: int = 0
    sure: bool = True
    """Whether nobody between us and the witness is likely to have answered in its place."""
