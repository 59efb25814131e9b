"""How tickets end: by people, by the clock, or because what they rest on has gone."""

import logging
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from audit.context import SYSTEM, Actor
from audit.personal import Personal, reason_of
from audit.services import record
from breakglass import notices
from breakglass.models import ApproverSetVersion, OwnerApproval, TermsVersion, Ticket
from breakglass.refusals import TicketRefused
from breakglass.selectors import current_terms, is_approver
from breakglass.services.reviews import review_raise
from breakglass.signals import ticket_changed
from breakglass.transitions import ACCESS_IS_OVER, WAITED_TOO_LONG, State, move, requester_may
from tenants.selectors import is_operator, is_owner

log = logging.getLogger(__name__)
MAX_WORDS = 500


@transaction.atomic
def ticket_revoke(*, actor: Actor, ticket: Ticket, words: str = "") -> Ticket:
    """Close the ticket, whether it waits or runs: by the requester, an approver, an operator or an owner.

    Raises:
        TicketRefused: ``not_allowed`` or ``over``; never for what ``words`` say: too long ones are cut.
    """
    words = words.replace("\0", "").strip()[:MAX_WORDS]
    role = revoker(actor, ticket)
    if role is None:
        raise TicketRefused("not_allowed", "You may not end this ticket.")
    if not finish(actor, ticket, State.REVOKED, role, words=words):
        raise TicketRefused("over", "This ticket is over already.")
    return Ticket.objects.get(pk=ticket.pk)


def revoker(actor: Actor, ticket: Ticket) -> str | None:
    """As what ``actor`` may revoke: ``requester``, ``owner``, ``approver`` or ``operator``; None: not."""
    user = actor.user
    if user is None or not user.is_active:
        return None
    if str(ticket.requester_id) == actor.id:
        return "requester"
    if is_owner(user, ticket.tenant):
        return "owner"
    if is_approver(user):
        return "approver"
    return "operator" if is_operator(user, ticket.tenant) else None


def tickets_expire() -> int:
    """Close what is over by the database's clock, or rests on nothing any more. How many were closed.

    Each ticket in a transaction of its own; the condition stands in the statement that closes it.
    """
    closed = 0
    for ticket in _due():
        try:
            closed += _close(ticket)
        except Exception:  # whatever is wrong with one ticket: the access of others ends all the same
            log.exception("ticket %s is not closed; the next round tries again", ticket.pk)
    return closed


def _close(ticket: Ticket) -> bool:
    for after, ending, condition in _reasons(ticket):
        with transaction.atomic():
            if finish(SYSTEM, ticket, after, ending, condition):
                return True
    return False


def finish(actor: Actor, ticket: Ticket, after: str, ending: str, *conditions: Q, words: str = "") -> bool:
    """The last step of a ticket, in the caller's transaction; whether it was taken."""
    by = int(actor.id) if actor.kind == "user" else None
    closing: dict[str, Any] = {"ended_at": Now(), "ended_by_id": by, "ending": ending, "words": words}
    if not move(ticket.pk, after, *conditions, **closing):
        return False
    over = Ticket.objects.select_related("tenant").get(pk=ticket.pk)
    personal: dict[str, Personal] = {"words": reason_of(actor, words)} if words else {}
    record(
        action=f"ticket.{after}",
        actor=actor,
        tenant_id=over.tenant_id,
        target=("ticket", over.pk),
        data={"revision": over.revision, "ending": ending},
        personal=personal,
    )
    if over.started_at is not None:
        review_raise(over)
    notices.over(over)
    told(over)
    return True


def told(ticket: Ticket) -> Ticket:
    """Tell the parts of this room that the ticket's state may be another."""
    ticket_changed.send(sender=Ticket, ticket_id=ticket.pk, state=ticket.state)
    return ticket


def check_words(words: str) -> str:
    """What somebody says when they close a ticket; may be empty. Raises TicketRefused: ``malformed``."""
    words = words.strip()
    if len(words) > MAX_WORDS or "\0" in words:
        raise TicketRefused("malformed", f"Say why in {MAX_WORDS} characters or fewer.")
    return words


def _due() -> list[Ticket]:
    """Waiting ones whose time is over, and all that run: those are few."""
    late = Q(state__in=Ticket.WAITING) & WAITED_TOO_LONG
    return list(Ticket.objects.filter(late | Q(state=State.ACTIVE)).select_related("tenant"))


def _reasons(ticket: Ticket) -> list[tuple[str, str, Q]]:
    """After which state, by which code, and on which condition; the first that holds."""
    if ticket.state != State.ACTIVE:
        return [(State.TIMED_OUT, "waited", WAITED_TOO_LONG)]
    later = ApproverSetVersion.objects.filter(version__gt=OuterRef("approvers_set__version"))
    return [
        (State.EXPIRED, "time", ACCESS_IS_OVER),
        (State.REVOKED, "other_set", Q(Exists(later))),
        (State.REVOKED, "closed", _terms_say(ticket, "closed")),
        (State.REVOKED, "owner_missing", _terms_say(ticket, "owner") & ~Q(Exists(_OWNER))),
        (State.REVOKED, "requester_gone", ~requester_may(ticket.tenant)),
    ]


_OWNER = OwnerApproval.objects.filter(ticket=OuterRef("pk"), revision=OuterRef("revision"))


def _terms_say(ticket: Ticket, mode: str) -> Q:
    """The owner's newest terms say ``mode`` of this kind of ticket."""
    row = current_terms(ticket.tenant)
    if row is None or row.document.get(ticket.kind) != mode:
        return Q(pk__in=[])
    later = TermsVersion.objects.filter(tenant=OuterRef("tenant"), version__gt=row.version)
    return ~Q(Exists(later))
