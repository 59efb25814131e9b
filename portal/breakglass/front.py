"""Break-glass on the staff's front page: what is open and waits, who owes a review, doubtful keys."""

from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from breakglass.models import Ticket
from breakglass.selectors import cloned_keys, overdue_reviews, tickets_for

MANY = 20


def front_page(user: AbstractBaseUser | AnonymousUser) -> dict[str, Any]:
    """Of the tickets that ``user`` may know of; doubtful keys are everybody's business."""
    known = tickets_for(user)
    return {
        "active": known.filter(state=Ticket.State.ACTIVE)[:MANY],
        "pending": known.filter(state=Ticket.State.PENDING).count(),
        "overdue": overdue_reviews().filter(ticket__in=known.values("pk"))[:MANY],
        "cloned": cloned_keys()[:MANY],
    }
