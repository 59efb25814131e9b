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
        return self._any("SELECT 1 FROM ended WHERE ticket = ?", ticket)

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
        sql = "SELECT text FROM receipt WHERE seq > ? AND (? IS NULL OR ticket = ?) ORDER BY seq LIMIT ?"
        return [bytes(text) for (text,) in self._database.execute(sql, (after, ticket, ticket, most))]

    def count(self, event: str, *, ticket: str | None = None, since: int = 0) -> int:
        """How many receipts of an event there are."""
        sql = "SELECT COUNT(*) FROM receipt WHERE event = ? AND (? IS NULL OR ticket = ?) AND at >= ?"
        return int(self._database.execute(sql, (event, ticket, ticket, since)).fetchone()[0])

    def _any(self, query: str, *given: Any) -> bool:
        return self._database.execute(query, given).fetchone() is not None
