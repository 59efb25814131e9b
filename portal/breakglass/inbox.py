"""The inbox of staff: what waits for them, what is theirs, what is open, what they still owe."""

from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from breakglass.models import Ticket
from breakglass.selectors import inbox_for, is_approver, tickets_for
from portal.breakglass.rows import rows, with_all

PAST = 15
"""Tickets that are over and still listed; the staff's other pages list all."""
MANY = 50


def inbox_page(user: User) -> dict[str, Any]:
    """The lists, each with what it needs to be a row."""
    found = inbox_for(user)
    past = with_all(tickets_for(user).exclude(state__in=Ticket.OPEN).order_by("-ended_at", "-pk"))[:PAST]
    now = timezone.now()
    return {
        "waiting": rows(with_all(found.waiting_for_me)[:MANY]),
        "mine": rows(with_all(found.mine)[:MANY]),
        "active": rows(with_all(found.active)[:MANY]),
        "reviews": [{"review": review, "overdue": review.due_at <= now} for review in found.reviews[:MANY]],
        "past": rows(past),
        "approver": is_approver(user),
    }
