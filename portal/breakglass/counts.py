"""How much break-glass asks of a person now: for the head of every page, and the staff's front page."""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from breakglass.selectors import inbox_for


@dataclass(frozen=True)
class Counts:
    """Of tickets and reviews."""

    waiting: int
    """For this person's approval."""
    active: int
    """Open now, of those that they may know of."""
    overdue: int
    """Reviews that they owe and that are late."""


def counts(user: User) -> Counts:
    """Asked anew each time: an access that is over is over."""
    inbox = inbox_for(user)
    return Counts(
        waiting=inbox.waiting_for_me.count(),
        active=inbox.active.count(),
        overdue=inbox.reviews.filter(due_at__lte=timezone.now()).count(),
    )


def break_glass(request: HttpRequest) -> dict[str, object]:
    """For templates, which ask for staff only; nothing is looked up before they do."""
    return {"break_glass": SimpleLazyObject(lambda: counts(request.user))}  # type: ignore[arg-type]
