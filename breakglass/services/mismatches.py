"""The end of an alarm about access: a person has looked into it, and says what they found."""

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from audit.acknowledging import NotAcknowledged
from audit.context import Actor
from audit.personal import commit, reason_of
from audit.reasons import reason_problem
from audit.services import record
from breakglass.comparing import LOOKED_BACK
from breakglass.models import Mismatch, Ticket


@transaction.atomic
def mismatch_acknowledge(*, actor: Actor, mismatch: Mismatch, reason: str) -> None:
    """Note who looked into it and why it is no alarm any more. The evidence stays.

    Raises:
        NotAcknowledged: somebody else was first, the reason is too short or long, nobody in person asks, or
            it is about access of their own.
    """
    if problem := reason_problem(reason):
        raise NotAcknowledged(problem)
    if actor.user is None:
        raise NotAcknowledged("Only a person acknowledges: sign in.")
    if _was_in(actor.user.pk, mismatch):
        raise NotAcknowledged("You had access to this machine yourself: have somebody else look into it.")
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


def _was_in(user: int, mismatch: Mismatch) -> bool:
    """Whether it may be their own doing: of their ticket, or of a machine that they had access to by then.

    Which ticket it is about is the machine's word alone, so its other tickets of that time count as well.
    """
    lately = mismatch.found_at - LOOKED_BACK
    then = Q(runtime=mismatch.runtime, started_at__lte=mismatch.found_at)
    then &= Q(ended_at=None) | Q(ended_at__gte=lately)
    return Ticket.objects.filter(Q(pk=mismatch.ticket) | then, requester=user).exists()
