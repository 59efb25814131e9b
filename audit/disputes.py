"""Disputes: somebody shows a checkpoint with the log's own signature, and the log does not continue it.

Nobody without the log's key can raise one: what a member shows is evidence, as loud as a witness's refusal.
"""

from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from audit import log
from audit.acknowledging import acknowledge
from audit.context import Actor
from audit.models import Dispute, DisputeAcknowledgement
from audit.personal import reason_of
from audit.services import record
from protocol.checkpoints import opened
from protocol.notes import Note, encode


@transaction.atomic
def dispute(*, actor: Actor, tenant_id: UUID, kept: str, here: int) -> None:
    """Keep the evidence, with its entry. The same history shown again is an entry more and no other alarm.

    Args:
        kept: the checkpoint that was shown, which the caller has compared with the log.
        here: the size of the log that does not continue it.

    Raises:
        NoteError: the log has not signed it. Nothing is kept.
    """
    shown, key = Note.parse(kept), log.vkey()
    checkpoint = opened(shown, key)
    # The evidence itself, without whatever other signatures somebody wrote below it.
    note = Note(shown.text, tuple(shown.of(key))).to_text()
    Dispute.objects.get_or_create(
        root=checkpoint.root, size=checkpoint.size, defaults={"tenant_id": tenant_id, "note": note}
    )
    record(
        action="record.disputed",
        actor=actor,
        tenant_id=tenant_id,
        target=("tenant", tenant_id),
        data={"size": checkpoint.size, "root": encode(checkpoint.root), "checkpoint": note, "here": here},
    )


@transaction.atomic
def dispute_acknowledge(*, actor: Actor, dispute: Dispute, reason: str) -> None:
    """End the alarm: somebody has found out why there is another history, and says so.

    Raises:
        NotAcknowledged: somebody else was first, or the reason is too short or long.
    """
    acknowledge(DisputeAcknowledgement, actor, reason, dispute=dispute)
    record(
        action="record.dispute_acknowledged",
        actor=actor,
        tenant_id=dispute.tenant_id,
        target=("dispute", dispute.pk),
        data={"size": dispute.size, "root": encode(bytes(dispute.root))},
        personal={"reason": reason_of(actor, reason.strip())},
    )


def open_disputes() -> QuerySet[Dispute]:
    """Those that nobody has looked into."""
    return Dispute.objects.filter(acknowledgement=None)
