"""This guest's own chain of receipts (protocol.access_receipts), kept in the store beside the grants."""

import json
import time
from typing import Any

from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.breakglass.store import BreakGlassFileError, Head, Store
from protocol.access_receipts import START, Position, Receipt, ReceiptError, following, head_note

PAGE = 200
PAGE_BYTES = 512 * 1024
MAX_REFUSED_EACH = 100
MAX_REFUSED_A_DAY = 1000
"""Refusals cost their causer nothing, so beyond so many no more are noted: the disk is the tenant's.

Of tickets that were open here, and as many of all others, so that these do not use up the room of those.
"""
DAY = 24 * 3600
MAX_SIZES = 32
MAX_TICKET_BYTES = 8 << 20
"""Of the receipts of one ticket. When there are more, it lets nobody in; what ends it is still noted."""
MAX_BYTES = 512 << 20
"""Of the file. When it is larger, no further grant is taken."""
CARRY_SECONDS = 60
"""How far the time of a receipt may be ahead of the clock, so as not to be before the one before it."""


class Chain:
    """Receipts that follow each other. One is on the disk when ``add`` returns."""

    def __init__(self, store: Store, runtime_id: str, seed: bytes) -> None:
        """``seed``: of this guest's witness key, which signs the head.

        Raises:
            BreakGlassFileError: the newest receipt is not the one that was written.
        """
        self._store, self._runtime_id, self._seed = store, runtime_id, seed
        self._sizes: dict[str, int] = {}
        head = store.head()
        if head.seq and _read(store.receipts(head.seq - 1, 1)[0]).position != (head.seq, head.hash):
            raise BreakGlassFileError("the newest receipt of break-glass is damaged")

    @property
    def position(self) -> Position:
        """Of the newest."""
        head = self._store.head()
        return (head.seq, head.hash) if head.seq else START

    def add(self, ticket: str, digest: str, event: str, *, token: str = "", **detail: Any) -> Receipt:
        """The next receipt, inside ``Store.together()``.

        Raises:
            ReceiptError: the detail has no canonical form or is too large.
            sqlite3.Error: it cannot be kept.
        """
        at = self._time()
        made = following(
            self.position,
            runtime_id=self._runtime_id,
            at=at,
            ticket=ticket,
            digest=digest,
            event=event,
            token=token,
            detail=detail,
        )
        text = made.text.encode()
        self._store.add_receipt(Head(made.seq, made.hash, at), ticket, event, text)
        if ticket in self._sizes:
            self._sizes[ticket] += len(text)
        return made

    def check_room(self, ticket: str) -> None:
        """Before more is let in by the ticket. Raises BreakGlassRefused: ``receipts_full``."""
        if ticket not in self._sizes:
            self._sizes = {
                ticket: self._store.bytes_of(ticket),
                **dict(list(self._sizes.items())[:MAX_SIZES]),
            }
        if self._sizes[ticket] >= MAX_TICKET_BYTES:
            raise BreakGlassRefused(
                403, "receipts_full", "this ticket has been used too much; ask for a new one"
            )

    def check_room_for_one_more(self) -> None:
        """Before another grant is taken. Raises BreakGlassRefused: ``receipts_full``."""
        if self._store.size() >= MAX_BYTES:
            raise BreakGlassRefused(409, "receipts_full", "this machine has no room for more receipts")

    def _time(self) -> int:
        """A clock set back a little does not make what comes later look earlier.

        One that was far ahead for a moment is not followed: each later receipt would bear its time for good.
        """
        now, before = int(time.time()), self._store.head().at
        return before if now < before <= now + CARRY_SECONDS else now

    def add_refused(self, ticket: str, digest: str, *, token: str = "", **detail: Any) -> None:
        """A receipt of a refusal, in a transaction of its own; none once there are too many."""
        now = int(time.time())
        known = self._store.digest_of(ticket) is not None
        if self._store.refused(ticket) >= MAX_REFUSED_EACH:
            return
        if self._store.refused_between(now - DAY, now + CARRY_SECONDS, known=known) >= MAX_REFUSED_A_DAY:
            return
        with self._store.together():
            self.add(ticket, digest, "refused", token=token, **detail)

    def page(self, after: int, ticket: str | None = None) -> list[dict[str, Any]]:
        """The receipts after the one of that number: at most 200, and not much more than 512 KiB."""
        found: list[dict[str, Any]] = []
        size = 0
        for text in self._store.receipts(after, PAGE, ticket):
            size += len(text)
            if found and size > PAGE_BYTES:
                break
            found.append(json.loads(text))
        return found

    def note(self) -> str:
        """The signed head."""
        return head_note(self._runtime_id, self.position, self._seed)

    def statement(self) -> dict[str, Any]:
        """For the status."""
        seq, found = self.position
        return {"seq": seq, "hash": found}


def _read(text: bytes) -> Receipt:
    try:
        return Receipt.parse(json.loads(text))
    except (ValueError, ReceiptError):
        raise BreakGlassFileError("the newest receipt of break-glass is damaged") from None
