"""Every write that a person, command or sweeper asks of this room."""

from breakglass.refusals import TicketRefused
from breakglass.services.drafting import draft
from breakglass.services.endings import ticket_revoke, tickets_expire
from breakglass.services.reviews import review_write
from breakglass.services.tickets import (
    ticket_approve,
    ticket_edit,
    ticket_end,
    ticket_open,
    ticket_owner_approve,
    ticket_reject,
    ticket_start,
    ticket_withdraw,
)

__all__ = [
    "TicketRefused",
    "draft",
    "review_write",
    "ticket_approve",
    "ticket_edit",
    "ticket_end",
    "ticket_open",
    "ticket_owner_approve",
    "ticket_reject",
    "ticket_revoke",
    "ticket_start",
    "ticket_withdraw",
    "tickets_expire",
]
