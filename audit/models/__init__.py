"""The tables of the record."""

from audit.models.append_only import AppendOnlyError, AppendOnlyModel, AppendOnlyQuerySet
from audit.models.entry import Entry
from audit.models.personal import PersonalDatum
from audit.models.tree import Checkpoint, Leaf, SequencerFence, Tile

__all__ = [
    "AppendOnlyError",
    "AppendOnlyModel",
    "AppendOnlyQuerySet",
    "Checkpoint",
    "Entry",
    "Leaf",
    "PersonalDatum",
    "SequencerFence",
    "Tile",
]
