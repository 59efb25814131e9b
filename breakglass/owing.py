"""Which tickets a guest still has to hear of. Apart from what calls guests, for pages that only tell."""

from django.db.models import Q, QuerySet

from breakglass.clock import Clock
from breakglass.models import Ticket
from provisioning.models import Runtime

State = Ticket.State
OVER = (State.ENDED, State.EXPIRED, State.REVOKED)
PASSING = frozenset({"wrong_set", "no_approvers", "closed", "owner_missing", "suspended", "too_many"})
"""Refusals that may pass while the ticket waits: the guest lacks what it has not been told yet."""


def undelivered() -> QuerySet[Ticket]:
    """Active tickets whose guest has not taken the grant, nor refused it for good."""
    return _reachable().filter(
        Q(delivery_refused="") | Q(delivery_refused__in=PASSING),
        state=State.ACTIVE,
        delivered_at=None,
        access_until__gt=Clock(),
    )


def unended() -> QuerySet[Ticket]:
    """Tickets that were begun and are over, and whose guest has not said so."""
    return _reachable().filter(state__in=OVER, started_at__isnull=False, end_confirmed_at=None)


def _reachable() -> QuerySet[Ticket]:
    return Ticket.objects.filter(runtime__phase=Runtime.Phase.READY).exclude(runtime__agent_address="")
