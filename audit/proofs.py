"""Proofs from the database: what anybody may be shown of the tree. Reads only; see :mod:`audit.sequencer`."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet
from django.utils import timezone

from audit.models import Checkpoint, Cosignature, Entry, Leaf, SequencerFence, Witness
from audit.tiles import read_tile as read_tile
from audit.tiles import reader
from protocol.merkle import ProofError, consistency_ranges, inclusion_ranges
from protocol.notes import MAX_SIGNATURES, Note
from protocol.receipts import Opening, Proof, Receipt
from protocol.tiles import consistency_from_tiles, inclusion_from_tiles, tiles_of


class NotSequencedError(ProofError):
    """The entry has no leaf yet. The sequencer gives it one within moments, if it runs."""


@dataclass(frozen=True)
class Lag:
    """What the sequencer has still to do."""

    entries: int
    """Committed entries without a leaf."""
    seconds: float
    """Age of the oldest of them; 0 without any."""


def index_of(entry: Entry | int) -> int:
    """The entry's leaf, from 0; a number is taken for the leaf's own.

    Raises:
        NotSequencedError: it has none yet.
    """
    if not isinstance(entry, Entry):
        return entry
    index = Leaf.objects.filter(entry=entry).values_list("index", flat=True).first()
    if index is None:
        raise NotSequencedError("the entry has no leaf yet")
    return index


def inclusion(entry_or_index: Entry | int, size: int) -> list[bytes]:
    """The proof that a leaf is in the tree of the first ``size`` leaves.

    Raises:
        ProofError: it is not, or there is no such tree.
    """
    index = index_of(entry_or_index)
    return inclusion_from_tiles(index, size, reader(tiles_of(inclusion_ranges(index, size), size)))


def consistency(old: int, new: int) -> list[bytes]:
    """The proof that the tree of ``new`` leaves begins with that of ``old``.

    Raises:
        ProofError: ``old`` is 0 or larger than ``new``, or there is no such tree.
    """
    return consistency_from_tiles(old, new, reader(tiles_of(consistency_ranges(old, new), new)))


def latest() -> Checkpoint | None:
    """The newest signed head; None before the first."""
    return Checkpoint.objects.order_by("-size").first()


def receipt(
    entry: Entry,
    *,
    checkpoint: Checkpoint | None = None,
    named: QuerySet[Witness] | None = None,
    openings: tuple[Opening, ...] = (),
) -> Receipt | None:
    """The entry with its proof; None while no checkpoint holds it, and when its body stands in an archive.

    Args:
        checkpoint: which head to prove it in. If none is given: the newest that a witness has signed, since
            heads come each second and witnesses' rounds do not; the newest of all, where none has.
        named: as for :func:`note_of`; the signatures of others do not count either.
        openings: the personal data that the reader may see.
    """
    index = Leaf.objects.filter(entry=entry).values_list("index", flat=True).first()
    if index is None or not entry.event:
        return None
    head = checkpoint or newest_cosigned(index, named) or latest()
    if head is None or index >= head.size:
        return None
    proof = Proof(index, tuple(inclusion(index, head.size)), note_of(head, named))
    return Receipt(entry.event, proof, openings)


def newest_cosigned(above: int = 0, named: QuerySet[Witness] | None = None) -> Checkpoint | None:
    """The newest head over more than ``above`` leaves that one of these has signed; no retired one."""
    found = _signatures(named).filter(checkpoint__size__gt=above, witness__retired_at=None)
    newest = found.order_by("-checkpoint__size").select_related("checkpoint").first()
    return newest.checkpoint if newest else None


def note_of(checkpoint: Checkpoint, named: QuerySet[Witness] | None = None) -> str:
    """The checkpoint under the log's own signature and those of witnesses; those outside come first.

    Args:
        named: the witnesses that the reader may know of, for a guest's name is its runtime's id. Only those
            outside, if not given; see :func:`witnesses_about`.
    """
    lines = _signatures(named).filter(checkpoint=checkpoint).order_by("witness__target", "witness__name")
    # No more than a note may have: an outside witness is never the one that is cut off, as its target is "".
    shown = lines.values_list("line", flat=True)[: MAX_SIGNATURES - 1]
    return Note.parse(checkpoint.note).signed_also(*shown).to_text()


def witnesses_about(tenant_id: UUID | None = None) -> QuerySet[Witness]:
    """The witnesses outside, and the machines of one tenant."""
    outside = Q(target="")
    return Witness.objects.filter(outside | Q(tenant_id=tenant_id) if tenant_id else outside)


def _signatures(named: QuerySet[Witness] | None) -> QuerySet[Cosignature]:
    return Cosignature.objects.filter(witness__in=witnesses_about() if named is None else named)


def lag(now: datetime | None = None) -> Lag:
    """How far the tree is behind the entries. Looks only above the sequencer's mark, so it stays cheap."""
    low = SequencerFence.objects.filter(pk=SequencerFence.ROW).values_list("low", flat=True).first() or 0
    found = unsequenced(low).aggregate(count=Count("pk"), oldest=Min("at"))
    if found["oldest"] is None:
        return Lag(0, 0.0)
    return Lag(found["count"], max(0.0, ((now or timezone.now()) - found["oldest"]).total_seconds()))


def unsequenced(above: int) -> QuerySet[Entry]:
    """The committed entries without a leaf whose id is larger than ``above``."""
    return Entry.objects.filter(~Exists(Leaf.objects.filter(entry=OuterRef("pk"))), pk__gt=above)
