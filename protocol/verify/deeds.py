"""What a guest's receipts tell of one ticket: whether access kept to it, and in words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from protocol.access_receipts import Receipt
from protocol.receipt_texts import exact
from protocol.tickets import Ticket, last_end
from protocol.verify.outcome import VerificationError

OPENING = frozenset({"granted", "session", "access"})
"""Events that a ticket must allow. All others tell how something went, or that it did not."""
LEEWAY_SECONDS = 2
"""The guest looks at its clock, and again when it writes the receipt."""


@dataclass
class Course:
    """A ticket whose signatures hold, and how far its access has come."""

    ticket: Ticket
    people: frozenset[str]
    """Who approved."""
    approvers: tuple[str, ...]
    """Their names in the set."""
    owner: str
    """Fingerprint of the owner's key whose signature the file has; empty if it has none."""
    granted: bool = False
    """Whether the guest's receipt that it took the ticket is in the file, and says the same."""
    until: int | None = None
    """Seconds since 1970; None: not begun, as far as the receipts tell."""
    over: bool = False

    def follow(self, deed: Receipt) -> None:
        """The ticket's next receipt. Raises VerificationError: the ticket does not allow it."""
        if deed.ticket != self.ticket.ticket:
            raise VerificationError(f"receipt {deed.seq} names another ticket than the one it was asked by")
        if deed.event in OPENING:
            self._check_time(deed)
        if deed.event == "granted":
            self._check_signers(deed)
            self.until = min(deed.at + self.ticket.seconds, last_end(self.ticket))
        elif deed.event == "access":
            self._check_reach(deed)
        self.over = self.over or deed.event == "ended"

    def words(self) -> list[str]:
        """The ticket, for people; each text of it escaped, so that a terminal obeys nothing."""
        ticket = self.ticket
        where = ", ".join(_quoted(path or "the whole workspace") for path in ticket.paths)
        rows = [
            f"ticket {ticket.ticket}, {ticket.kind}, revision {ticket.revision}, digest {ticket.digest}",
            f"  asked by {_quoted(ticket.requester.name)} at {moment(ticket.asked_at)}",
            f"  reason: {_quoted(ticket.reason)}",
            f"  for {', '.join(ticket.scopes)}{f' in {where}' if where else ''}, {ticket.seconds} seconds",
            f"  approved by {', '.join(map(_quoted, self.approvers))}",
        ]
        return [*rows, f"  and by the owner's key {self.owner}"] if self.owner and self.granted else rows

    def _check_signers(self, deed: Receipt) -> None:
        """The ticket's digest does not hold its signatures: who signed is what the guest has seen, and noted.

        Keyrings in the file are the portal's word, and so an owner's signature alone is, too.
        """
        if deed.detail.get("people") != sorted(self.people):
            raise VerificationError(f"receipt {deed.seq}: other people had approved than the file says")
        if deed.detail.get("owner") != self.owner:
            raise VerificationError(f"receipt {deed.seq}: the machine has seen another owner's signature")
        self.granted = True

    def _check_time(self, deed: Receipt) -> None:
        late = deed.at > (self.until or last_end(self.ticket)) + LEEWAY_SECONDS
        if self.over or late:
            raise VerificationError(f"receipt {deed.seq}: access after its ticket was over")

    def _check_reach(self, deed: Receipt) -> None:
        scope, path = deed.detail.get("scope"), _path(deed)
        if scope not in self.ticket.scopes:
            raise VerificationError(f"receipt {deed.seq}: its ticket does not give that scope")
        if isinstance(path, str) and not self.ticket.covers(path):
            raise VerificationError(f"receipt {deed.seq}: its ticket does not reach that path")


def words(deed: Receipt) -> str:
    """One receipt on one line; what came from elsewhere is escaped."""
    facts = " ".join(f"{name}={_quoted(value)}" for name, value in sorted(deed.detail.items()))
    return f"{deed.seq}  {moment(deed.at)}  {deed.event}  {deed.ticket}  {facts}".rstrip()


def moment(at: int) -> str:
    """Seconds since 1970 as a date in UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return str(at)


def _path(deed: Receipt) -> Any:
    try:
        return exact(deed.detail, "path")
    except ValueError:
        raise VerificationError(f"receipt {deed.seq}: its path is not escaped as it says") from None


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=isinstance(value, Mapping))
