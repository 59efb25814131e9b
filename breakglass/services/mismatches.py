"""The end of an alarm about access: a person has looked into it, and says what they found."""

from django.db import transaction
from django.db.models.functions import Now

from audit.acknowledging import NotAcknowledged
from audit.context import Actor
from audit.personal import commit, reason_of
from audit.reasons import reason_problem
from audit.services import record
from breakglass.models import Mismatch


@transaction.atomic
def mismatch_acknowledge(*, actor: Actor, mismatch: Mismatch, reason: str) -> None:
    """Note who looked into it and why it is no alarm any more. The evidence stays.

    Raises:
        NotAcknowledged: somebody else was first, the reason is too short or long, or nobody in person asks.
    """
    if problem := reason_problem(reason):
        raise NotAcknowledged(problem)
    if actor.user is None:
        raise NotAcknowledged("Only a person acknowledges: sign in.")
    why = reason_of(actor, reason.strip())
    open_one = Mismatch.objects.filter(pk=mismatch.pk, acknowledged_at=None)
    # What people write may have to be erased: the row holds the commitment only.
    if not open_one.update(acknowledged_at=Now(), acknowledged_by=actor.user.pk, why=commit(why)):
        raise NotAcknowledged("Somebody has acknowledged this already.")
    record(
        action="break_glass.mismatch_acknowledged",
        actor=actor,
        tenant_id=mismatch.runtime.tenant_id,
        target=("mismatch", mismatch.pk),
        data={"kind": mismatch.kind, "seq": mismatch.seq},
        personal={"reason": why},
    )
