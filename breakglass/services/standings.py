"""A ticket as it stands by now, and why a step with it was not taken."""

from breakglass.clock import database_time
from breakglass.models import Ticket
from breakglass.refusals import TicketRefused
from breakglass.standing import Standing
from breakglass.transitions import MACHINE_READY, State, owner_agrees, quorum, requester_may


def fresh_row(ticket: Ticket) -> Ticket:
    """As it stands in the database by now."""
    return Ticket.objects.select_related("tenant", "approvers_set").get(pk=ticket.pk)


def digest_of(ticket: Ticket) -> str:
    """Of the revision that ``ticket`` shows: what its approvers sign, in hex."""
    return next(row.digest for row in ticket.revisions.all() if row.revision == ticket.revision)


def why_not(ticket: Ticket) -> TicketRefused:
    """Why a step was not taken, as the ticket is by now."""
    fresh = fresh_row(ticket)
    late = (fresh.access_until or fresh.wait_until) <= database_time()
    if not fresh.open:
        return TicketRefused("over", f"This ticket is over: {fresh.get_state_display()}.")
    if fresh.revision != ticket.revision:
        return TicketRefused("edited", "The ticket has changed meanwhile. Reload the page and look again.")
    if late:
        return TicketRefused("too_late", "Its time is over. Ask for a new one.")
    if fresh.state == State.ACTIVE:
        return TicketRefused("started", "Access has begun already.")
    if fresh.state == State.APPROVED:
        return TicketRefused("approved_already", "It is approved already.")
    return TicketRefused("not_approved", "It is not approved yet.")


def why_not_started(ticket: Ticket, current: Standing) -> TicketRefused:
    """Which of the conditions of :func:`breakglass.services.tickets.ticket_start` did not hold."""
    reasons = (
        (MACHINE_READY, "no_machine", "The tenant's machine is not ready. Begin once it is."),
        (requester_may(ticket.tenant), "not_allowed", "You may not operate this tenant any more."),
        (quorum(current), "no_quorum", "Too few of those who approved may still approve. Edit the ticket."),
        (
            owner_agrees(current, ticket.kind),
            "owner_missing",
            "The tenant's terms ask for an owner's signature now. Ask an owner.",
        ),
    )
    for condition, code, words in reasons:
        if not Ticket.objects.filter(condition, pk=ticket.pk).exists():
            return TicketRefused(code, words)
    return why_not(ticket)
