"""Every token is good once: a ledger on the data volume that outlives restarts and clocks set back.

``high`` is the newest time that a believed token has told. It only rises, so it also tells when this
machine's own clock is behind the truth. Tokens are forgotten once they expired by ``high``, never by the
clock alone.
"""

import os
import sqlite3
from pathlib import Path

from protocol.tokens import CLOCK_LEEWAY_SECONDS, RuntimeToken, TokenError

LEDGER_FILE = "tokens.sqlite3"
RESTART_LEEWAY_SECONDS = 2
"""How much older than this process a token may be. Covers a restored disk, whose ledger is old too."""


class Ledger:
    """Which tokens have been used."""

    def __init__(self, folder: Path, started: int) -> None:
        """``started``: when this process began, in seconds since 1970."""
        self._started = started
        # SQLite takes the mode of the files beside it from the database's own.
        os.close(os.open(folder / LEDGER_FILE, os.O_RDWR | os.O_CREAT, 0o600))
        self._database = sqlite3.connect(folder / LEDGER_FILE, isolation_level=None)
        # FULL: a token is spent on the disk before its request is served.
        self._database.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE IF NOT EXISTS seen (jti TEXT PRIMARY KEY, exp INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 0), high INTEGER NOT NULL);"
            "INSERT OR IGNORE INTO clock VALUES (0, 0);"
        )
        self.high = int(self._database.execute("SELECT high FROM clock").fetchone()[0])

    def close(self) -> None:
        self._database.close()

    def clock_is_right(self, now: int) -> bool:
        """Whether ``now`` is not behind what the portal has told."""
        return now >= self.high - CLOCK_LEEWAY_SECONDS

    def spend(self, token: RuntimeToken, now: int) -> None:
        """Note that ``token``, whose signature and claims are checked, has been used.

        Raises:
            TokenError: ``clock_wrong``, ``token_expired`` or ``token_replayed``.
        """
        if not self.clock_is_right(now):
            raise TokenError("clock_wrong")
        if token.exp <= self.high or token.iat < self._started - RESTART_LEEWAY_SECONDS:
            raise TokenError("token_expired")
        high = max(self.high, token.iat)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("INSERT INTO seen VALUES (?, ?)", (token.jti, token.exp))
            self._database.execute("DELETE FROM seen WHERE exp <= ?", (high,))
            self._database.execute("UPDATE clock SET high = ?", (high,))
            self._database.execute("COMMIT")
        except sqlite3.IntegrityError:
            self._database.execute("ROLLBACK")
            raise TokenError("token_replayed") from None
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        self.high = high
