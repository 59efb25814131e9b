"""The record of jobs on the data volume. What it says has happened is on the disk."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from guest.agent.jobs.records import Asked, Job, JobsFileError, Kind, Outcome, Reason, State, Who

FILE = "jobs.sqlite3"
SCHEMA = 1
PAGE = 50
_CREATE = """
BEGIN IMMEDIATE;
CREATE TABLE job (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    work TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    by_name TEXT NOT NULL,
    by_key TEXT NOT NULL,
    submitted_at INTEGER NOT NULL,
    boot TEXT NOT NULL DEFAULT '',
    started_at INTEGER,
    ended_at INTEGER,
    reason TEXT,
    exit_code INTEGER,
    signal TEXT,
    cancelled_name TEXT,
    cancelled_key TEXT,
    log_bytes INTEGER NOT NULL DEFAULT 0,
    hidden INTEGER NOT NULL DEFAULT 0
);
PRAGMA user_version=1;
COMMIT;
"""
_FINISH = """
UPDATE job SET
    state = CASE WHEN cancelled_key IS NULL THEN ? ELSE 'cancelled' END,
    reason = CASE WHEN cancelled_key IS NULL THEN ? END,
    exit_code = ?, signal = ?, log_bytes = ?, ended_at = ?
WHERE id = ? AND state IN ('starting', 'running')
"""
_HIDE_SURPLUS = """
UPDATE job SET hidden = 1 WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER newest AS place, sum(log_bytes) OVER newest AS total FROM job
        WHERE NOT hidden AND state NOT IN ('queued', 'starting', 'running')
        WINDOW newest AS (ORDER BY number DESC)
    ) WHERE place > ? OR total > ?
)
"""


class Store:
    """Jobs, by id and by number: the later one has the higher."""

    def __init__(self, folder: Path) -> None:
        """Open the record in ``folder``, or begin one. Raises JobsFileError, OSError."""
        # SQLite takes the mode of the files beside it from the database's own.
        os.close(os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o600))
        self._database = sqlite3.connect(folder / FILE, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        try:
            self._open()
        except sqlite3.DatabaseError as failure:
            self._database.close()
            raise _damaged(type(failure).__name__) from None
        except JobsFileError:
            self._database.close()
            raise

    def _open(self) -> None:
        # FULL: a job that was accepted, or may have begun, is so after a power cut too.
        self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in {0, SCHEMA}:
            raise JobsFileError(
                f"the record of jobs ({FILE}) has version {version}, this agent's is {SCHEMA}"
            )
        if tuple(self._database.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
            raise _damaged("quick_check")
        if version == 0:
            self._database.executescript(_CREATE)
        self._jobs("SELECT * FROM job")

    def close(self) -> None:
        self._database.close()

    def add(self, asked: Asked, by: Who, now: int) -> None:
        """Put a job at the end of the queue. Raises sqlite3.IntegrityError: its id is taken."""
        self._update(
            "INSERT INTO job (id, kind, work, seconds, by_name, by_key, submitted_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(asked.id, asked.kind, json.dumps(asked.work), asked.seconds, by.name, by.fingerprint, now),
        )

    def get(self, name: str) -> Job | None:
        """The job of that id; one that is being forgotten is none."""
        found = self._jobs("SELECT * FROM job WHERE id = ? AND NOT hidden", name)
        return found[0] if found else None

    def taken(self, name: str) -> bool:
        """Whether the id stands for a job, even one that is being forgotten."""
        return bool(self._jobs("SELECT * FROM job WHERE id = ?", name))

    def page(self, before: int | None) -> list[Job]:
        """The newest jobs with a number below ``before``, one more than a page if there are more."""
        return self._jobs(
            "SELECT * FROM job WHERE number < ? AND NOT hidden ORDER BY number DESC LIMIT ?",
            *(2**62 if before is None else before, PAGE + 1),
        )

    def waiting(self) -> list[Job]:
        """The queue, its head first."""
        return self._jobs("SELECT * FROM job WHERE state = 'queued' ORDER BY number")

    def begun(self) -> list[Job]:
        """Those that may be running."""
        return self._jobs("SELECT * FROM job WHERE state IN ('starting', 'running') ORDER BY number")

    def counts(self) -> dict[str, int]:
        """How many may be running, and how many wait: figures only, for who may not know of the jobs."""
        sql = "SELECT COUNT(*) FILTER (WHERE state IN ('starting', 'running')),"
        sql += " COUNT(*) FILTER (WHERE state = 'queued') FROM job"
        running, waiting = self._database.execute(sql).fetchone()
        return {"running": running, "waiting": waiting}

    def hidden(self) -> list[Job]:
        """Those that are being forgotten."""
        return self._jobs("SELECT * FROM job WHERE hidden")

    def claim(self, name: str, boot: str, now: int) -> bool:
        """Note that a waiting job is about to begin; False: it waits no more."""
        return self._update(
            "UPDATE job SET state = 'starting', boot = ?, started_at = ? WHERE id = ? AND state = 'queued'",
            *(boot, now, name),
        )

    def started(self, name: str) -> None:
        """Note that it runs."""
        self._update("UPDATE job SET state = 'running' WHERE id = ? AND state = 'starting'", name)

    def cancel_waiting(self, name: str, by: Who | None, reason: Reason | None, now: int) -> bool:
        """Take it out of the queue; False: it waits no more."""
        return self._update(
            "UPDATE job SET state = 'cancelled', ended_at = ?, reason = ?, cancelled_name = ?,"
            " cancelled_key = ? WHERE id = ? AND state = 'queued'",
            *(now, reason, by.name if by else None, by.fingerprint if by else None, name),
        )

    def cancel_begun(self, name: str, by: Who) -> None:
        """Note who wants it ended; the first one counts."""
        self._update(
            "UPDATE job SET cancelled_name = ?, cancelled_key = ?"
            " WHERE id = ? AND state IN ('starting', 'running') AND cancelled_key IS NULL",
            *(by.name, by.fingerprint, name),
        )

    def finish(self, name: str, outcome: Outcome, log_bytes: int, now: int) -> None:
        """Note how it ended. What somebody wanted ended was cancelled, however it took that."""
        told = (outcome.state, outcome.reason, outcome.exit_code, outcome.signal)
        self._update(_FINISH, *told, log_bytes, now, name)

    def hide(self, name: str) -> bool:
        """Begin to forget a job that is over; False: there is none."""
        return self._update(
            "UPDATE job SET hidden = 1"
            " WHERE id = ? AND NOT hidden AND state NOT IN ('queued', 'starting', 'running')",
            name,
        )

    def hide_surplus(self, jobs: int, log_bytes: int) -> None:
        """Begin to forget the oldest of those that are over: beyond so many jobs, or bytes of logs."""
        self._update(_HIDE_SURPLUS, jobs, log_bytes)

    def remove(self, name: str) -> None:
        """The last step of forgetting."""
        self._update("DELETE FROM job WHERE id = ? AND hidden", name)

    def _jobs(self, query: str, *given: Any) -> list[Job]:
        return [_job(row) for row in self._database.execute(query, given)]

    def _update(self, change: str, *given: Any) -> bool:
        return self._database.execute(change, given).rowcount > 0


def _damaged(how: str) -> JobsFileError:
    return JobsFileError(f"the record of jobs ({FILE}) is damaged: {how}")


def _job(row: sqlite3.Row) -> Job:
    """Raises JobsFileError: somebody else wrote it."""
    try:
        work = json.loads(row["work"])
        words = tuple(work.get("argv", ())), work.get("text", "")
        return Job(
            number=row["number"],
            asked=Asked(row["id"], Kind(row["kind"]), *words, row["seconds"]),
            state=State(row["state"]),
            by=Who(row["by_name"], row["by_key"]),
            submitted_at=row["submitted_at"],
            boot=row["boot"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            reason=Reason(row["reason"]) if row["reason"] else None,
            exit_code=row["exit_code"],
            signal=row["signal"],
            cancelled_by=Who(row["cancelled_name"], row["cancelled_key"]) if row["cancelled_key"] else None,
        )
    except (ValueError, TypeError, AttributeError, IndexError) as failure:
        raise _damaged(type(failure).__name__) from None
