"""The grants that are open in this guest, and what ends them.

A grant is judged when it comes, whenever keyring, approvers or terms change, and at each start of the agent.
With every request and every chunk the cheaper half is asked again: both clocks, the pinned set, the terms,
suspension. An end is for good, also for a ticket that this guest has never seen.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.breakglass.store import BreakGlassFileError, Kept, Store
from guest.agent.breakglass.terms import PinnedTerms
from guest.agent.members import Members
from guest.agent.recovery import Recovery
from protocol.canonical import canonical
from protocol.persons import Site
from protocol.tickets import (
    CLOCK_LEEWAY_SECONDS,
    Grant,
    Judged,
    Ticket,
    TicketRefused,
    check_standing,
    judge,
    last_end,
)

MAX_OPEN = 16


@dataclass(frozen=True)
class Opened:
    """A grant in force."""

    grant: Grant
    judged: Judged
    began: int
    """Seconds since 1970, by this guest's clock."""
    until: int
    """When it ends by that clock."""
    deadline: float
    """When it ends by the monotonic clock of this start of the machine, in seconds."""

    @property
    def ticket(self) -> Ticket:
        return self.judged.ticket


@dataclass(frozen=True)
class Moment:
    """Both clocks."""

    wall: int
    """Seconds since 1970."""
    monotonic: float
    """Seconds."""


@dataclass(frozen=True)
class Ground:
    """What a grant rests on, as it is at the moment of asking."""

    members: Members
    recovery: Recovery
    terms: PinnedTerms
    tenant_id: str
    runtime_id: str
    site: Site | None
    """The portal's origin alone: requester and approvers sign there and nowhere else."""
    clock_is_right: Callable[[int], bool]

    def judge(self, grant: Grant, now: int) -> Judged:
        """Raises TicketRefused."""
        return judge(
            grant,
            approvers=self.recovery.approvers,
            keyring=self.members.keyring,
            terms=self.terms.now,
            tenant_id=self.tenant_id,
            runtime_id=self.runtime_id,
            site=self.site,
            now=now,
        )

    def fault(self, opened: Opened, now: Moment) -> str:
        """Why the grant may not be used at this moment; empty: it may."""
        if self.members.suspended:
            return "suspended"
        if now.wall >= opened.until or now.monotonic >= opened.deadline:
            return "expired"
        if not self.clock_is_right(now.wall) or now.wall < opened.began - CLOCK_LEEWAY_SECONDS:
            return "clock_wrong"
        try:
            check_standing(
                opened.judged,
                approvers=self.recovery.approvers,
                keyring=self.members.keyring,
                terms=self.terms.now,
            )
        except TicketRefused as refusal:
            return refusal.code
        return ""


class Grants:
    """All that are open, by ticket, and which have ended."""

    def __init__(self, store: Store, ground: Ground, boot: str, now: Moment) -> None:
        """``boot``: which start of the machine this is.

        Raises:
            BreakGlassFileError: a grant cannot be read.
        """
        self._store, self._ground, self._boot = store, ground, boot
        self._open: dict[str, Opened] = {}
        self.fallen: dict[str, str] = {}
        """Tickets whose grant no longer holds at this start, with the reason, for the caller to end."""
        for kept in store.still_open():
            self._load(kept, now)

    def tickets(self) -> list[str]:
        """The open ones."""
        return sorted(self._open)

    def opened(self) -> list[Opened]:
        return [self._open[ticket] for ticket in self.tickets()]

    def take(self, document: Any, now: Moment) -> Opened:
        """Judge a grant, without keeping it. One that is open, sent again, is the open one.

        Raises:
            BreakGlassRefused: ``ended``, ``another_revision``, ``suspended``, ``too_many``, or a code of
                :mod:`protocol.tickets`.
        """
        try:
            grant = Grant.parse(document)
            ticket = Ticket.parse(grant.document)
            known = self._open.get(ticket.ticket)
            if known is not None and known.ticket.digest == ticket.digest:
                return known
            self._check_new(ticket)
            judged = self._ground.judge(grant, now.wall)
        except TicketRefused as refusal:
            status = 422 if refusal.code == "malformed" else 403
            raise BreakGlassRefused(status, refusal.code, str(refusal)) from None
        until = min(now.wall + ticket.seconds, last_end(ticket))
        return Opened(grant, judged, now.wall, until, now.monotonic + ticket.seconds)

    def is_open(self, opened: Opened) -> bool:
        """Whether it is this very one."""
        return self._open.get(opened.ticket.ticket) is opened

    def write(self, opened: Opened) -> None:
        """Put a new grant on the disk, inside ``Store.together()``."""
        text = canonical(opened.grant.to_document())
        self._store.add_opened(
            opened.ticket.ticket, Kept(opened.ticket.digest, text, opened.began, self._boot, opened.deadline)
        )

    def open(self, opened: Opened) -> None:
        """From now on it is open. It is on the disk."""
        self._open[opened.ticket.ticket] = opened

    def close(self, ticket: str) -> Opened | None:
        """From now on it is not open; what it was."""
        return self._open.pop(ticket, None)

    def standing(self, ticket: str, now: Moment) -> Opened:
        """The open grant of the ticket.

        Raises:
            BreakGlassRefused: ``no_grant``, ``ended``, or why it may not be used at this moment.
        """
        opened = self._open.get(ticket)
        if opened is None:
            if self._store.has_ended(ticket):
                raise BreakGlassRefused(403, "ended", "this access is over; ask for a new one")
            raise BreakGlassRefused(403, "no_grant", "this machine has no grant of this ticket")
        code = self._ground.fault(opened, now)
        if code:
            raise BreakGlassRefused(403, code, "this access does not hold any more")
        return opened

    def fault(self, opened: Opened, now: Moment) -> str:
        """Why it may not be used at this moment; empty: it may."""
        return self._ground.fault(opened, now)

    def judged_again(self) -> dict[str, str]:
        """Open tickets that would not be opened now, with the reason."""
        found = {}
        for opened in self.opened():
            try:
                self._ground.judge(opened.grant, opened.began)
            except TicketRefused as refusal:
                found[opened.ticket.ticket] = refusal.code
        return found

    def _check_new(self, ticket: Ticket) -> None:
        if self._store.has_ended(ticket.ticket):
            raise BreakGlassRefused(409, "ended", "this ticket's access is over for good; ask for a new one")
        if ticket.ticket in self._open or self._store.digest_of(ticket.ticket) is not None:
            raise BreakGlassRefused(409, "another_revision", "another revision of this ticket is open")
        if self._ground.members.suspended:
            raise BreakGlassRefused(403, "suspended", "this runtime is suspended")
        if len(self._open) >= MAX_OPEN:
            raise BreakGlassRefused(409, "too_many", f"{MAX_OPEN} are open: end one first")

    def _load(self, kept: Kept, now: Moment) -> None:
        try:
            grant = Grant.parse(json.loads(kept.text))
            ticket = Ticket.parse(grant.document)
        except (ValueError, TicketRefused):
            raise BreakGlassFileError("a grant of break-glass is damaged") from None
        until = min(kept.began + ticket.seconds, last_end(ticket))
        # Never more than the ticket has, even if the clock is behind at this start.
        left = min(ticket.seconds, until - now.wall)
        deadline = kept.deadline if kept.boot == self._boot else now.monotonic + left
        try:
            judged = self._ground.judge(grant, kept.began)
        except TicketRefused as refusal:
            self.fallen[ticket.ticket] = refusal.code
            return
        self._open[ticket.ticket] = Opened(grant, judged, kept.began, until, deadline)
