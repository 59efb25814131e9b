"""Which tickets a guest still has to hear of. Apart from what calls guests, for pages that only tell."""

from django.db.models import Exists, OuterRef, Q, QuerySet

from breakglass.clock import Clock
from breakglass.models import Approval, Ticket
from provisioning.models import Runtime

State = Ticket.State
PASSING = frozenset({"wrong_set", "no_approvers", "closed", "owner_missing", "suspended", "too_many"})
"""Refusals that may pass while the ticket waits: the guest lacks what it has not been told yet."""


MAY_RUN = Q(phase=Runtime.Phase.READY) | ~Q(power__in=[Runtime.Power.OFF, Runtime.Power.ABSENT])
"""Machines in which something may run: in any phase, unless its host has seen that nothing does.

A restart that failed leaves a machine that runs, and one whose host does not answer may run.
"""


def undelivered() -> QuerySet[Ticket]:
    """Active tickets whose guest has not taken the grant, nor refused it for good."""
    return _of(Q(phase=Runtime.Phase.READY)).filter(
        Q(delivery_refused="") | Q(delivery_refused__in=PASSING),
        state=State.ACTIVE,
        delivered_at=None,
        access_until__gt=Clock(),
    )


def unended() -> QuerySet[Ticket]:
    """Tickets that somebody has ever approved and that are over, and whose guest has not said so.

    Also those that were never begun, and whose approved revision was edited away: their signatures would open
    a guest that has heard of no end, if somebody had stolen them.
    """
    signed = Exists(Approval.objects.filter(ticket=OuterRef("pk")))
    over = _of(MAY_RUN).exclude(state__in=Ticket.OPEN).filter(end_confirmed_at=None)
    return over.filter(Q(started_at__isnull=False) | signed)


def _of(machines: Q) -> QuerySet[Ticket]:
    """Tickets of those machines that have an address."""
    reached = Runtime.objects.filter(machines).exclude(agent_address="")
    return Ticket.objects.filter(runtime__in=reached)
