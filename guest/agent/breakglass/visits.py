"""What a handler of an access route gets from the gate: ``visit_of(request)``.

Before a handler runs, the gate has checked token, grant, operator's session, scope and path, and the
``access`` receipt is on the disk. What is left for the handler:

- open only what it was asked for: ``visit.path`` is covered by the ticket *as written*, so it must be opened
  beneath the workspace with **no** symbolic link followed, else a link leads out of what was approved;
- ``visit.check()`` before each chunk that goes out, comes in or is written: it raises once access has ended;
- ``visit.done(...)`` at the end, with figures and digests and never content. The gate adds the status and
  writes the ``outcome`` receipt;
- see to the end of what it has started outside this process. When access ends, the connection is aborted and
  the handler cancelled (``asyncio.CancelledError``).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from guest.agent.breakglass.scopes import Rule

if TYPE_CHECKING:
    from guest.agent.breakglass.access import BreakGlass
    from guest.agent.breakglass.grants import Opened
    from guest.agent.breakglass.sessions import OperatorSession
    from protocol.tickets import Ticket


@dataclass
class Visit:
    """One request of an operator's, under one ticket."""

    opened: "Opened"
    jti: str
    """The token's, which the receipts name."""
    rule: Rule
    session: "OperatorSession"
    path: str
    """Of what the request is about: checked, and covered by the ticket. Empty where it is about no path."""
    access: "BreakGlass"
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def ticket(self) -> "Ticket":
        return self.opened.ticket

    def check(self) -> None:
        """Raises BreakGlassRefused: access has ended, whoever or whatever ended it."""
        self.access.check(self)

    def seconds_left(self) -> int:
        """Whole seconds until access ends by itself."""
        return self.access.seconds_left(self.opened)

    def done(self, **outcome: Any) -> None:
        """What the ``outcome`` receipt says beside the status: ``bytes``, ``exit_code``, ``sha256``…"""
        self.outcome |= outcome

    def end(self) -> None:
        """The operator is done: the ticket's access ends for good."""
        self.access.end(self.ticket.ticket, "done", token=self.jti)


VISIT = web.RequestKey("visit", Visit)
"""Where the gate leaves the visit for the handler."""


def visit_of(request: web.Request) -> Visit:
    """The gate's. Raises KeyError: the route is of another class."""
    return request[VISIT]
