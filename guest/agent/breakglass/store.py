"""Grants, their ends and the receipts, in one file on the data volume: what belongs together is kept so.

What it says has happened is on the disk: SQLite syncs before a transaction counts as done.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guest.agent.files import FileDamaged

FILE = "break-glass.sqlite3"
SCHEMA = 1
_CREATE = """
BEGIN IMMEDIATE;
CREATE TABLE opened (
    ticket TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    text BLOB NOT NULL,
    began INTEGER NOT NULL,
    boot TEXT NOT NULL,
    deadline REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE ended (
    ticket TEXT PRIMARY KEY,
    code TEXT NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE receipt (
    seq INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    at INTEGER NOT NULL,
    ticket TEXT NOT NULL,
    event TEXT NOT NULL,
    text BLOB NOT NULL
);
CREATE INDEX receipt_by_ticket ON receipt (ticket, event);
PRAGMA user_version=1;
COMMIT;
"""

_INDEXES = "CREATE INDEX IF NOT EXISTS receipt_refused ON receipt (at, ticket) WHERE event = 'refused';"

_PAGE = "SELECT text FROM receipt WHERE seq > ? ORDER BY seq LIMIT ?"
_PAGE_OF_ONE = "SELECT text FROM receipt WHERE ticket = ? AND seq > ? ORDER BY seq LIMIT ?"
_REFUSED_BETWEEN = (
    "SELECT COUNT(*) FROM receipt INDEXED BY receipt_refused WHERE event = 'refused' AND at BETWEEN ? AND ?"
    " AND ? = EXISTS (SELECT 1 FROM opened WHERE opened.ticket = receipt.ticket)"
)


class BreakGlassFileError(FileDamaged):
    """The file is damaged. A fresh one would forget which tickets have ended."""


@dataclass(frozen=True)
class Kept:
    """A grant as it was taken."""

    digest: str
    """The ticket's."""
    text: bytes
    """Canonical."""
    began: int
    """Seconds since 1970, by this guest's clock."""
    boot: str
    """The start of the machine in which it was taken."""
    deadline: float
    """When it ends by that start's monotonic clock, in seconds."""


@dataclass(frozen=True)
class Head:
    """The newest receipt's place; (0, "") before the first."""

    seq: int
    hash: str
    at: int


class Store:
    """One connection; the agent's event loop is its only user."""

    def __init__(self, folder: Path) -> None:
        """Raises BreakGlassFileError, sqlite3.Error."""
        # SQLite takes the mode of the files beside it from the database's own.
        os.close(os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o600))
        self._database = sqlite3.connect(folder / FILE, isolation_level=None)
        try:
            self._open()
        except sqlite3.DatabaseError as failure:
            self._database.close()
            if isinstance(failure, sqlite3.OperationalError):
                raise
            raise BreakGlassFileError(f"{FILE} is damaged") from None
        except BreakGlassFileError:
            self._database.close()
            raise

    def _open(self) -> None:
        self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in {0, SCHEMA}:
            raise BreakGlassFileError(f"{FILE} has version {version}, this agent's is {SCHEMA}")
        if tuple(self._database.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
            raise BreakGlassFileError(f"{FILE} is damaged")
        if version == 0:
            self._database.executescript(_CREATE)
        self._database.executescript(_INDEXES)

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is done in the block is on the disk at its end, or nothing of it."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def add_opened(self, ticket: str, kept: Kept) -> None:
        """Raises sqlite3.IntegrityError: there is one already."""
        given = (ticket, kept.digest, kept.text, kept.began, kept.boot, kept.deadline)
        self._database.execute("INSERT INTO opened VALUES (?, ?, ?, ?, ?, ?)", given)

    def still_open(self) -> list[Kept]:
        """Those that nothing has ended."""
        sql = "SELECT digest, text, began, boot, deadline FROM opened"
        sql += " WHERE ticket NOT IN (SELECT ticket FROM ended)"
        return [Kept(*row) for row in self._database.execute(sql)]

    def digest_of(self, ticket: str) -> str | None:
        """The digest of the ticket, if this guest has ever taken a grant of it."""
        row = self._database.execute("SELECT digest FROM opened WHERE ticket = ?", (ticket,)).fetchone()
        return None if row is None else str(row[0])

    def add_end(self, ticket: str, code: str, now: int) -> bool:
        """Note the end, for good; False: it had been noted."""
        sql = "INSERT OR IGNORE INTO ended VALUES (?, ?, ?)"
        return self._database.execute(sql, (ticket, code, now)).rowcount > 0

    def has_ended(self, ticket: str) -> bool:
        return self._number("SELECT count(*) FROM ended WHERE ticket = ?", ticket) > 0

    def head(self) -> Head:
        """Of the receipts."""
        row = self._database.execute("SELECT seq, hash, at FROM receipt ORDER BY seq DESC LIMIT 1").fetchone()
        return Head(*row) if row else Head(0, "", 0)

    def add_receipt(self, head: Head, ticket: str, event: str, text: bytes) -> None:
        """``head``: what the receipts' head is with this one. Raises sqlite3.IntegrityError."""
        given = (head.seq, head.hash, head.at, ticket, event, text)
        self._database.execute("INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?)", given)

    def receipts(self, after: int, most: int, ticket: str | None = None) -> list[bytes]:
        """At most so many after the one of that number, of one ticket or of all."""
        if ticket is None:
            found = self._database.execute(_PAGE, (after, most))
        else:
            found = self._database.execute(_PAGE_OF_ONE, (ticket, after, most))
        return [bytes(text) for (text,) in found]

    def refused(self, ticket: str) -> int:
        """How many receipts there are of refusals for this ticket."""
        return self._number("SELECT COUNT(*) FROM receipt WHERE ticket = ? AND event = 'refused'", ticket)

    def refused_between(self, first: int, last: int, *, known: bool) -> int:
        """The same by time, of tickets that were ever open here, or of all the others."""
        return self._number(_REFUSED_BETWEEN, first, last, known)

    def bytes_of(self, ticket: str) -> int:
        """Of all receipts of the ticket. Reads each of them."""
        return self._number("SELECT COALESCE(SUM(LENGTH(text)), 0) FROM receipt WHERE ticket = ?", ticket)

    def size(self) -> int:
        """Of the file, in bytes."""
        return self._number("PRAGMA page_count") * self._number("PRAGMA page_size")

    def _number(self, query: str, *given: Any) -> int:
        return int(self._database.execute(query, given).fetchone()[0])
