"""What is written once access is over."""

from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from audit.context import Actor
from audit.personal import Personal, reason_of
from audit.services import record
from breakglass.models import Review, Ticket
from breakglass.refusals import TicketRefused

DUE = timedelta(hours=72)
MIN_TEXT, MAX_TEXT = 20, 4000
_PIECE = 500
"""Characters that one commitment holds."""


def review_raise(ticket: Ticket) -> Review:
    """Ask for the review of a ticket whose access is over, in the caller's transaction."""
    review, _ = Review.objects.get_or_create(ticket=ticket, defaults={"due_at": Now() + DUE})
    return review


@transaction.atomic
def review_write(*, actor: Actor, ticket: Ticket, text: str) -> Review:
    """The requester says what they did and found; that closes the review for good.

    Raises:
        TicketRefused: ``not_allowed``, ``no_review``, ``review_closed`` or ``malformed``.
    """
    if actor.user is None or not actor.user.is_active or str(ticket.requester_id) != actor.id:
        raise TicketRefused("not_allowed", "Only the requester writes the review.")
    text = text.replace("\r\n", "\n").strip()
    if not MIN_TEXT <= len(text) <= MAX_TEXT or "\0" in text:
        raise TicketRefused("malformed", f"Write {MIN_TEXT} to {MAX_TEXT} characters.")
    waiting = Review.objects.filter(ticket=ticket, closed_at=None)
    if waiting.update(text=text, closed_at=Now(), closed_by_id=int(actor.id)) != 1:
        if Review.objects.filter(ticket=ticket).exists():
            raise TicketRefused("review_closed", "The review is written already.")
        raise TicketRefused("no_review", "There is nothing to review: access has not ended, or never began.")
    record(
        action="ticket.reviewed",
        actor=actor,
        tenant_id=ticket.tenant_id,
        target=("ticket", ticket.pk),
        data={"kind": ticket.kind},
        personal=_pieces(actor, text),
    )
    return Review.objects.select_related("ticket").get(ticket=ticket)


def _pieces(actor: Actor, text: str) -> dict[str, Personal]:
    """Commitments to all of it, in the order of the text."""
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    return {f"review_{number}": reason_of(actor, piece) for number, piece in enumerate(pieces, 1)}
