"""What a probe answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

EVIDENCE_MAXIMUM = 1000


@dataclass(frozen=True)
class Verdict:
    """One probe's answer. ``evidence`` names what was looked at, or what is wrong; never a secret."""

    name: str
    passed: bool
    evidence: str
    at: datetime


Answer = tuple[bool, str]
"""What a probe function gives: whether it passes, and the evidence."""


def all_of(problems: Iterable[str], otherwise: str) -> Answer:
    """Fail with the problems, if there are any; else pass with what was looked at."""
    listed = list(problems)
    return (not listed, "; ".join(listed) if listed else otherwise)
