"""A ticket of break-glass as the portal tells it, once every signature under it has been checked here."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from client.errors import Failure, WrongAnswer
from client.origins import Origin
from client.reading import objects, optional, take
from client.screen import plain
from protocol.approvers import ApproversError, ApproverSet
from protocol.keyrings import Keyring
from protocol.persons import Site
from protocol.tickets import Ticket, TicketRefused, check_approval, check_owner, check_request, needed


@dataclass(frozen=True)
class Shown:
    """One ticket, in the revision that holds."""

    ticket: Ticket
    state: str
    needs_owner: bool
    approved_by: tuple[str, ...]
    """Names, as the set has them, of those whose signatures hold."""
    needed: int
    owner: str
    """Fingerprint of the owner who signed; empty if none has."""
    done: tuple[dict[str, Any], ...]
    """What the portal says that the machine says: proved by the file of receipts only."""

    @classmethod
    def read(cls, told: Any, portal: Origin, tenant_id: str, keyring: Keyring | None) -> Self:
        """Raises WrongAnswer, or Failure: a signature does not hold, or it is another tenant's ticket."""
        revisions = objects(told, "revisions")
        newest = max(revisions, key=lambda one: take(one, "revision", int), default=None)
        if newest is None:
            raise WrongAnswer("The portal shows a ticket that nobody has asked for.")
        site = Site(portal.host, frozenset({str(portal)}))
        try:
            ticket = Ticket.parse(newest["document"])
            approvers = ApproverSet.parse(take(told, "approvers", dict))
            if ticket.tenant_id != tenant_id or take(newest, "digest", str) != ticket.digest:
                raise Failure("WARNING: the portal shows another ticket than it says, or another tenant's.")
            if (ticket.approvers_version, ticket.approvers_hash) != (approvers.version, approvers.hash):
                raise Failure("WARNING: the portal shows other approvers than the ticket was asked under.")
            check_request(ticket, take(newest, "signature", dict), site)
            people = {check_approval(ticket, approvers, one, site) for one in objects(told, "approvals")}
            given = optional(told, "owner", dict)
            owner = check_owner(ticket, keyring, given, site) if given else ""
        except (TicketRefused, ApproversError, KeyError) as error:
            raise Failure(f"WARNING: what the portal shows does not hold: {plain(str(error))}.") from None
        names = {one["name"] for one in approvers.document["approvers"] if one["person"] in people}
        return cls(
            ticket,
            plain(take(told, "state", str), 20),
            take(told, "needs_owner", bool),
            tuple(sorted(plain(name, 80) for name in names)),
            needed(ticket, approvers),
            owner,
            tuple(objects(told, "done")),
        )

    def lines(self) -> Iterator[str]:
        """For people."""
        ticket = self.ticket
        yield f"ticket       {ticket.ticket}, revision {ticket.revision}, {ticket.kind}: {self.state}"
        who = plain(ticket.requester.name, 80)
        yield f"asked by     {who}, {moment(ticket.asked_at)} (signature checked)"
        yield f"reason       {plain(ticket.reason, 2000)}"
        if ticket.incident:
            yield f"incident     {plain(ticket.incident, 500)}"
        yield f"for          {', '.join(ticket.scopes)}"
        for path in ticket.paths:
            yield f"path         {plain(path, 1024) or 'the whole workspace'}"
        yield f"how long     {ticket.seconds} seconds, to begin before {moment(ticket.wait_until)}"
        by = f": {', '.join(self.approved_by)} (signatures checked)" if self.approved_by else ""
        yield f"approved     {len(self.approved_by)} of {self.needed}{by}"
        if self.needs_owner or self.owner:
            yield f"owner        {f'signed with {self.owner}' if self.owner else 'must sign, too'}"
        yield f"digest       {ticket.digest}"


def moment(at: int) -> str:
    """Seconds since 1970 as a date in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
