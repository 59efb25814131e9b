"""Break-glass as gate, handlers and the members' page see it: grants, sessions, visits and their ends."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from guest.agent.breakglass.cuts import Cuts
from guest.agent.breakglass.grants import Grants, Ground, Moment, Opened
from guest.agent.breakglass.marks import End, Marks
from guest.agent.breakglass.receipts import Chain
from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.breakglass.sessions import OperatorSession, OperatorSessions
from guest.agent.breakglass.store import Store
from guest.agent.breakglass.visits import Visit
from protocol.access_receipts import ReceiptError
from protocol.tickets import Ticket, TicketRefused
from protocol.tokens import BreakGlassToken

LOOK_SECONDS = 1.0
"""How often open grants are looked at, used or not. An end by time is met to the moment."""
TRIES_AFTER = 5.0

_log = logging.getLogger(__name__)


def moment() -> Moment:
    """Now."""
    return Moment(int(time.time()), time.monotonic())


class BreakGlass:
    """All calls on one event loop."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        ground: Ground,
        sessions: OperatorSessions,
        boot: str,
        marks: Marks,
        now: Callable[[], Moment] = moment,
    ) -> None:
        """Raises BreakGlassFileError, OSError."""
        self._store, self.chain, self.terms, self.sessions = store, chain, ground.terms, sessions
        self._now, self.cuts = now, Cuts()
        self.grants = Grants(store, ground, boot, now())
        self._marks = marks
        self._unwritten = {ticket: End(code, {}) for ticket, code in self.grants.fallen.items()}
        self._take_up_ends()

    # Grants

    def take(self, document: Any) -> Opened:
        """Open the grant, for good noted; the same again is the same answer and no second life.

        Raises:
            BreakGlassRefused: see ``Grants.take``, or ``receipts_full``. It is noted in the receipts if the
                ticket can be read.
            sqlite3.Error, OSError: it, or later its end, cannot be kept, and so it is not open.
        """
        self.look()
        try:
            opened = self.grants.take(document, self._now())
            if not self.grants.is_open(opened):
                self.chain.check_room_for_one_more()
        except BreakGlassRefused as refusal:
            self._note_refused_grant(document, refusal.code)
            raise
        if self.grants.is_open(opened):
            return opened
        self._marks.make(opened.ticket.ticket)
        try:
            self._keep(opened)
        except BaseException:
            self._marks.remove(opened.ticket.ticket)
            raise
        self.grants.open(opened)
        return opened

    def _keep(self, opened: Opened) -> None:
        ticket, judged = opened.ticket, opened.judged
        with self._store.together():
            self.grants.write(opened)
            self.chain.add(
                ticket.ticket,
                ticket.digest,
                "granted",
                people=sorted(judged.people),
                owner=judged.owner or "",
                requester=ticket.requester.person,
                kind=ticket.kind,
                scopes=list(ticket.scopes),
                paths=list(ticket.paths),
                until=opened.until,
            )

    def end(self, ticket: str, code: str, *, token: str = "", **detail: Any) -> tuple[bool, int]:
        """End the ticket's access for good: whether it was open, and what it cut.

        At once in memory; then on the disk. ``code`` says why, for machines.

        Raises:
            sqlite3.Error: it is over for good, but has no receipt yet. Ask again; so does the agent.
        """
        found = self._close(ticket, code, token=token, **detail)
        self._write_ends()
        return found

    def look(self) -> None:
        """End each open grant that no longer holds; cut what is under way where only the clock is doubted."""
        now = self._now()
        for opened in self.grants.opened():
            code = self.grants.fault(opened, now)
            if code == "clock_wrong":
                self.cuts.cut(opened.ticket.ticket)
            elif code:
                self._close(opened.ticket.ticket, code)
        self._write_ends()

    def changed(self) -> None:
        """Keyring, approvers, terms or suspension have changed: what no longer holds ends now.

        Raises:
            sqlite3.Error: as ``end``.
        """
        for ticket, code in self.grants.judged_again().items():
            self._close(ticket, code)
        self.look()

    # Sessions and visits

    def challenge(self, opened: Opened) -> dict[str, Any]:
        """The document that the requester signs to begin a session."""
        return self.sessions.challenge(opened.ticket, self._now().monotonic)

    def begin_session(
        self, ticket: Ticket, nonce: str, signature: Mapping[str, Any], token: str
    ) -> OperatorSession:
        """The operator's session for this ticket; the one before ends, with what is under way in it.

        Raises:
            BreakGlassRefused: ``receipts_full``, ``nonce_unknown`` or ``bad_signature``.
        """
        self.chain.check_room(ticket.ticket)
        session = self.sessions.proven(ticket, nonce, signature, self._now().monotonic)
        with self._store.together():
            self.chain.add(ticket.ticket, ticket.digest, "session", token=token)
        self.cuts.cut(ticket.ticket)
        self.sessions.keep(session)
        return session

    def standing(self, ticket: str) -> Opened:
        """The ticket's open grant, usable at this moment. Raises BreakGlassRefused."""
        return self.grants.standing(ticket, self._now())

    def check(self, visit: Visit) -> None:
        """Whether this visit may go on. Raises BreakGlassRefused."""
        now = self._now()
        opened = self.grants.standing(visit.ticket.ticket, now)
        if opened is not visit.opened or not self.sessions.lives(visit.session, now.monotonic):
            raise BreakGlassRefused(403, "session_required", "this session has ended")
        visit.session.used = now.monotonic

    def note(self, visit: Visit, event: str, **detail: Any) -> None:
        """A receipt about a visit, in a transaction of its own.

        Raises:
            BreakGlassRefused: ``receipts_full``; only of an ``access``, for how it went is noted in any case.
            ReceiptError, sqlite3.Error: it cannot be kept.
        """
        if event == "access":
            self.chain.check_room(visit.ticket.ticket)
        with self._store.together():
            self.chain.add(visit.ticket.ticket, visit.ticket.digest, event, token=visit.jti, **detail)

    def session(self, ticket: str, name: str) -> OperatorSession:
        """The ticket's session that a cookie names. Raises BreakGlassRefused: ``session_required``."""
        return self.sessions.find(ticket, name, self._now().monotonic)

    def note_refused(self, token: BreakGlassToken, code: str, **about: Any) -> None:
        """A receipt of a refusal, if the token's ticket was ever open here. What cannot be kept is let go."""
        with suppress(ReceiptError, sqlite3.Error):
            digest = self._store.digest_of(token.ticket)
            if digest is None:
                return
            refused = partial(
                self.chain.add_refused, token.ticket, digest, token=token.jti, code=code, of="request"
            )
            try:
                refused(**about)
            except ReceiptError:  # What it was about is too long, or not text: that it was refused is told.
                refused()

    def seconds_left(self, opened: Opened) -> int:
        """Whole seconds until it ends by itself, by the earlier of the two clocks."""
        now = self._now()
        return max(0, int(min(opened.until - now.wall, opened.deadline - now.monotonic)))

    # For pages and status

    def statement(self) -> dict[str, Any]:
        """For the status: public facts only."""
        return {
            "terms": self.terms.statement(),
            "receipts": self.chain.statement(),
            "grants": self.grants.tickets(),
        }

    def shown(self) -> list[dict[str, Any]]:
        """What members see of the open grants."""
        return [
            {
                "ticket": opened.ticket.document,
                "people": sorted(opened.judged.people),
                "owner": opened.judged.owner,
                "began": opened.began,
                "until": opened.until,
                "seconds_left": self.seconds_left(opened),
            }
            for opened in self.grants.opened()
        ]

    # Beside the handlers

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """For the time of the block, grants end by themselves when they must."""
        watch = asyncio.get_running_loop().create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    def close(self) -> None:
        """Give up the file."""
        self._store.close()

    async def _watch(self) -> None:
        while True:
            pause = LOOK_SECONDS
            try:
                self.look()
            except Exception as failure:  # whatever it is: the watch goes on
                _log.error("an end of break-glass is not on the disk yet: %s", type(failure).__name__)
                pause = TRIES_AFTER
            now = self._now()
            left = [opened.deadline - now.monotonic for opened in self.grants.opened()]
            await asyncio.sleep(max(0.01, min([pause, *left])))

    def _close(self, ticket: str, code: str, **told: Any) -> tuple[bool, int]:
        """The part of an end that waits for no disk and cannot fail."""
        opened = self.grants.close(ticket)
        self.sessions.end(ticket)
        streams = self.cuts.cut(ticket)
        if opened is not None or ticket not in self._unwritten:
            self._unwritten[ticket] = End(code, {**told, "streams": streams})
        return opened is not None, streams

    def _write_ends(self) -> None:
        """First where it needs no room, of all of them; then with their receipts."""
        for ticket, end in self._unwritten.items():
            with suppress(OSError):  # The store may take it nevertheless.
                self._marks.end(ticket, end)
        for ticket, end in list(self._unwritten.items()):
            with self._store.together():
                digest = self._store.digest_of(ticket)
                if self._store.add_end(ticket, end.code, self._now().wall) and digest is not None:
                    self.chain.add(ticket, digest, "ended", code=end.code, **end.told)
            self._unwritten.pop(ticket, None)
            self._marks.remove(ticket)

    def _take_up_ends(self) -> None:
        """At the start: what has ended before it, whether or not the store could take that."""
        for ticket in [*self.grants.tickets(), *self._unwritten]:
            if (end := self._marks.ended(ticket)) is not None:
                self.grants.close(ticket)
                self._unwritten[ticket] = end
        with suppress(sqlite3.Error, OSError):  # The watch tries again.
            self._write_ends()
        self._marks.sweep({*self.grants.tickets(), *self._unwritten})

    def _note_refused_grant(self, document: Any, code: str) -> None:
        try:
            ticket = Ticket.parse(document["document"])
        except (TicketRefused, TypeError, KeyError):
            return
        with suppress(sqlite3.Error, OSError):  # The refusal is told all the same.
            self.chain.add_refused(ticket.ticket, ticket.digest, code=code, of="grant")
