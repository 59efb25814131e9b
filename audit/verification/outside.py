"""What others know of the log: the sequencer's memory, checkpoints that somebody kept, and witnesses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audit import log
from audit.disputes import open_disputes
from audit.models import Checkpoint, Cosignature, WitnessRefusal
from audit.sequencer import memory
from audit.verification.findings import Findings
from protocol.checkpoints import check_cosignature, opened
from protocol.notes import Note, NoteError, VerifierKey

_REFUSALS = {
    WitnessRefusal.Reason.SMALLER: "rolled_back",
    WitnessRefusal.Reason.FORKED: "forked",
    WitnessRefusal.Reason.PROOF: "forked",
}


@dataclass(frozen=True)
class Claim:
    """A root that somebody has seen."""

    size: int
    root: bytes
    by: str


def remembered(folder: Path, found: Findings) -> Iterator[Claim]:
    """The sequencer's own; none where it never ran, or runs on another machine."""
    try:
        signed = memory.read(folder)
    except memory.MemoryUnreadableError as error:
        found.add("memory_unreadable", str(error))
        return
    if signed is None:
        return
    if signed.origin != log.vkey().name:
        found.add("memory_unreadable", f"it is of the log {signed.origin}")
        return
    yield Claim(signed.size, signed.root, "the sequencer's memory")


def kept(notes: Iterable[tuple[str, str]], found: Findings) -> Iterator[Claim]:
    """Checkpoints from outside: pairs of a name for messages, and the note."""
    for name, note in notes:
        try:
            checkpoint = opened(note, log.vkey())
        except NoteError as error:
            found.add("signature_wrong", f"{name}: {error}")
        else:
            yield Claim(checkpoint.size, checkpoint.root, name)


def disputed() -> Iterator[Claim]:
    """Checkpoints that members have shown, whose signature was checked, and that nobody has looked into."""
    for dispute in open_disputes():
        yield Claim(dispute.size, bytes(dispute.root), f"dispute {dispute.pk}")


def check_witnesses(after: int, found: Findings) -> int:
    """Each cosignature still fits its checkpoint; refusals that nobody has looked into. Answers how many."""
    for refusal in WitnessRefusal.objects.filter(acknowledgement=None, reason__in=_REFUSALS).select_related():
        name = _REFUSALS[WitnessRefusal.Reason(refusal.reason)]
        found.add(name, f"the witness {refusal.witness.name} holds {refusal.size} and refused")
    count = 0
    for one in Cosignature.objects.filter(checkpoint__size__gt=after).select_related().iterator(1000):
        count += 1
        if not _fits(one):
            found.add("cosignature_wrong", f"{one.witness.name} under checkpoint {one.checkpoint.size}")
    return count


def _fits(one: Cosignature) -> bool:
    try:
        note = Note(Note.parse(one.checkpoint.note).text).signed_also(one.line)
        check_cosignature(note, VerifierKey.parse(one.witness.vkey))
    except NoteError:
        return False
    return True


def too_large(size: int, found: Findings) -> None:
    """Checkpoints over more leaves than there are."""
    for one in Checkpoint.objects.filter(size__gt=size).order_by("size").values_list("size", flat=True):
        found.add("leaf_gap", f"checkpoint {one} stands over {size} leaves")
