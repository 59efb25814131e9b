"""What a verification can find, by name."""

from collections import Counter
from dataclasses import dataclass, field

NAMES = {
    "entry_changed": "an entry's text is not what its leaf has hashed",
    "entry_missing": "a leaf's entry is gone",
    "entry_foreign": "an entry stands among sequenced ones and has no leaf",
    "unsequenced": "an entry has waited too long for its leaf",
    "column_differs": "a column does not say what the entry's text says",
    "time_wrong": "an entry's time does not fit into the time in which it was sequenced",
    "leaf_gap": "a leaf is missing",
    "leaf_order": "leaves do not stand in the order in which they were given",
    "tile_wrong": "a stored tile is not the one over its leaves",
    "checkpoint_wrong": "a checkpoint does not have the root of its leaves",
    "checkpoint_missing": "leaves stand beyond the newest checkpoint",
    "signature_wrong": "a checkpoint is not signed by the log's key",
    "cosignature_wrong": "a witness has signed something else",
    "witness_foreign": "a witness, its retirement, a refusal or what came of it is not as the entries tell",
    "rolled_back": "a larger tree was signed than the one that is here",
    "forked": "another tree of this size, or of its beginning, was signed",
    "memory_unreadable": "what the sequencer remembers cannot be read",
    "segment_foreign": "a stretch counts as archived and no entry says so",
    "trigger_missing": "the database no longer refuses changes",
}
"""Name → what it means. docs/audit.md says what to do about each."""

SHOWN = 20
"""Findings of one name that are kept whole; the rest is counted."""


@dataclass(frozen=True)
class Finding:
    """One thing that does not fit."""

    name: str
    where: str
    """Such as ``leaf 7``."""

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"no such finding: {self.name}")


@dataclass
class Findings:
    """A collection that stays small however much is wrong."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, where: str) -> None:
        """One more."""
        self.counts[name] += 1
        if self.counts[name] <= SHOWN:
            self.kept.append(Finding(name, where))

    def merge(self, other: "Findings") -> None:
        """Those of another collection, too."""
        kept = Counter(one.name for one in self.kept)
        for one in other.kept:
            if kept[one.name] < SHOWN:
                kept[one.name] += 1
                self.kept.append(one)
        self.counts += other.counts
