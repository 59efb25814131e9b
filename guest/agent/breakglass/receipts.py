"""This guest's own chain of receipts (protocol.access_receipts), kept in the store beside the grants."""

import json
import time
from typing import Any

from guest.agent.breakglass.store import BreakGlassFileError, Head, Store
from protocol.access_receipts import START, Position, Receipt, ReceiptError, following, head_note

PAGE = 200
PAGE_BYTES = 512 * 1024
MAX_REFUSED_EACH = 100
MAX_REFUSED_A_DAY = 1000
"""Refusals cost their causer nothing, so beyond so many no more are noted: the disk is the tenant's."""
DAY = 24 * 3600


class Chain:
    """Receipts that follow each other. One is on the disk when ``add`` returns."""

    def __init__(self, store: Store, runtime_id: str, seed: bytes) -> None:
        """``seed``: of this guest's witness key, which signs the head.

        Raises:
            BreakGlassFileError: the newest receipt is not the one that was written.
        """
        self._store, self._runtime_id, self._seed = store, runtime_id, seed
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
        # A clock that was set back does not make what comes later look earlier.
        at = max(int(time.time()), self._store.head().at)
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
        self._store.add_receipt(Head(made.seq, made.hash, at), ticket, event, made.text.encode())
        return made

    def add_refused(self, ticket: str, digest: str, *, token: str = "", **detail: Any) -> None:
        """A receipt of a refusal, in a transaction of its own; none once there are too many."""
        day = int(time.time()) - DAY
        if self._store.count("refused", ticket=ticket) >= MAX_REFUSED_EACH:
            return
        if self._store.count("refused", since=day) >= MAX_REFUSED_A_DAY:
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
