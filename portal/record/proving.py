"""A tenant's proofs: receipts of its entries, and that the log continues a checkpoint that somebody kept."""

from dataclasses import dataclass
from typing import Any

from audit import log, proofs
from audit.context import Actor
from audit.disputes import dispute
from audit.models import Entry
from portal.record import openings
from portal.record.heads import Head, head, of_size
from protocol.checkpoints import Checkpoint, hash_lines, opened
from protocol.merkle import ProofError
from protocol.notes import Note, NoteError
from protocol.receipts import Receipt
from protocol.tiles import root_from_tiles
from tenants.models import Tenant
from tenants.selectors import Person
from tenants.services.refusals import Refused


class NotProved(Refused):
    """There is no such proof, or none yet."""


FORKED = (
    "THIS LOG DOES NOT CONTINUE THAT CHECKPOINT, which bears the log's own signature. Somebody has rewritten "
    "the record. Keep your file: it is evidence. Staff see it in red on every page of theirs."
)


@dataclass(frozen=True)
class Consistency:
    """That the log at ``size`` is the log at ``old`` with more behind it."""

    old: int
    size: int
    hashes: tuple[bytes, ...]
    note: str
    """The newer checkpoint with its signatures."""

    @property
    def proof(self) -> str:
        """As C2SP writes it: a line of base64 for each hash."""
        return hash_lines(self.hashes)

    def document(self) -> dict[str, Any]:
        """For the API."""
        return {"old": self.old, "size": self.size, "proof": self.proof, "checkpoint": self.note}


def receipt(reader: Person, tenant: Tenant, entry: Entry) -> Receipt:
    """The entry, which the caller has found among the tenant's, with its proof. Raises NotProved: not yet."""
    if not entry.event:
        raise NotProved("archived", "The words of this entry stand in an archive. Ask your operator for it.")
    leaf = getattr(entry, "leaf", None)
    found = head(tenant, holding=leaf.index + 1) if leaf else None
    if found is None:
        raise _not_yet()
    (mine,) = openings.readable(reader, tenant, [entry])
    made = proofs.receipt(entry, checkpoint=found.checkpoint, openings=mine)
    if made is None:
        raise _not_yet()
    return Receipt(
        made.event, type(made.proof)(made.proof.index, made.proof.hashes, found.note), made.personal
    )


def consistency(tenant: Tenant, old: int, size: int | None = None) -> Consistency:
    """From the first ``old`` entries to the head of ``size``, or to the newest.

    Raises:
        NotProved: there are no such heads.
    """
    new = newest(tenant, holding=old) if size is None else exact(tenant, size)
    if not 0 < old <= new.size:
        raise NotProved("unknown_size", f"Give an old size from 1 to {new.size}: the log has no more.")
    return _between(old, new)


def newest(tenant: Tenant, holding: int = 0) -> Head:
    """The newest head, of ``holding`` entries if there are so many. Raises NotProved: there is none yet."""
    found = head(tenant, holding=holding) or head(tenant)
    if found is None:
        raise NotProved("no_checkpoint_yet", "The log has no checkpoint yet. Try again in some seconds.")
    return found


def exact(tenant: Tenant, size: int) -> Head:
    """The head of just this size. Raises NotProved: the log never signed one."""
    found = of_size(tenant, size)
    if found is None:
        raise NotProved(
            "unknown_checkpoint", "The log has signed no checkpoint of this size. Leave size out."
        )
    return found


def since(*, actor: Actor, tenant: Tenant, kept: str) -> Consistency:
    """That the log continues a checkpoint that somebody has kept; what it does not continue goes on record.

    Raises:
        NotProved: ``kept`` is no checkpoint of this log, or the log contradicts it (``forked``).
    """
    try:
        old = opened(Note.parse(kept), log.vkey())
    except NoteError as error:
        raise NotProved(
            "not_of_this_log", f"This is no checkpoint that this log has signed: {error}."
        ) from None
    new = newest(tenant, holding=old.size)
    if old.size == 0:
        raise NotProved("unknown_size", "A checkpoint of an empty log says nothing. Give a later one.")
    if not _continues(old, new):
        dispute(actor=actor, tenant_id=tenant.pk, kept=kept, here=new.size)
        raise NotProved("forked", FORKED)
    return _between(old.size, new)


def _not_yet() -> NotProved:
    return NotProved("not_in_the_log_yet", "The entry is not in the log yet. Try again in some seconds.")


def _continues(old: Checkpoint, new: Head) -> bool:
    try:
        return old.size <= new.size and root_from_tiles(old.size, proofs.read_tile) == old.root
    except ProofError:
        return False


def _between(old: int, new: Head) -> Consistency:
    return Consistency(old, new.size, tuple(proofs.consistency(old, new.size)), new.note)
