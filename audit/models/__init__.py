"""The tables of the record."""

from audit.models.append_only import AppendOnlyError, AppendOnlyModel, AppendOnlyQuerySet
from audit.models.disputes import Dispute, DisputeAcknowledgement
from audit.models.entry import Entry
from audit.models.personal import PersonalDatum
from audit.models.search import SearchIndex
from audit.models.segment import Segment
from audit.models.tree import Checkpoint, Leaf, SequencerFence, Tile
from audit.models.witnesses import Cosignature, RefusalAcknowledgement, Witness, WitnessRefusal

__all__ = [
    "AppendOnlyError",
    "AppendOnlyModel",
    "AppendOnlyQuerySet",
    "Checkpoint",
    "Cosignature",
    "Dispute",
    "DisputeAcknowledgement",
    "Entry",
    "Leaf",
    "PersonalDatum",
    "RefusalAcknowledgement",
    "SearchIndex",
    "Segment",
    "SequencerFence",
    "Tile",
    "Witness",
    "WitnessRefusal",
]
