"""Why a ticket, an approval or a step of one is not taken. ``code`` is for machines.

``protocol.tickets`` raises the same for what is wrong with a ticket's document itself.
"""

from protocol.tickets import TicketRefused

__all__ = ["TicketRefused"]
