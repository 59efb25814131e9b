"""Whose turn it is to write the tree: one sequencer at a time, by a lock, and by a number that grows.

The lock keeps a second one waiting, as long as the holder says that it is there: anybody who may connect can
take the lock, and only a sequencer can write the fence's time. The number (the fence) is what the tree relies
on: it is compared in the transaction that writes, so one that was stopped, lost
its lock and wakes up later writes nothing.
"""

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from audit.faults import around
from audit.models import SequencerFence

_KEY = 0x706F7274_616C0006
"""The advisory lock's number: ours alone in this database."""


SILENCE = timedelta(seconds=45)
"""A holder of the lock that has not been there for so long is none, or hangs: it speaks each ten seconds."""


class BusyError(Exception):
    """Another sequencer holds the lock."""


class FencedError(Exception):
    """Another sequencer has begun since: this one must start anew, with nothing that it remembers."""


def _seen_lately() -> bool:
    at = SequencerFence.objects.filter(pk=SequencerFence.ROW).values_list("at", flat=True).first()
    return at is not None and timezone.now() - at < SILENCE


class Lock(Protocol):
    """Something that one process holds until it gives it back or ends."""

    def take(self) -> bool:
        """Whether it is ours now."""

    def release(self) -> None:
        """Give it back; harmless if it is lost already."""

    def be_patient(self) -> None:
        """In a transaction: how long to wait for one that was stopped in the middle of its own."""


class _AdvisoryLock:
    """PostgreSQL's, of this connection: it goes with it."""

    def __init__(self, _folder: Path) -> None:
        self._held = False

    def take(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [_KEY])
            self._held = bool(cursor.fetchone()[0])
        return self._held

    def release(self) -> None:
        held, self._held = self._held, False
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_KEY])

    def be_patient(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '10s'")


class _FileLock:
    """For SQLite, whose database is on this machine, and so are all its sequencers."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._handle: int | None = None

    def take(self) -> bool:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def be_patient(self) -> None:
        pass  # the connection's own time-out does it


_LOCKS: dict[str, Callable[[Path], Lock]] = {"postgresql": _AdvisoryLock, "sqlite": _FileLock}


class Turn:
    """One sequencer's turn, from :meth:`begin` to :meth:`end`."""

    def __init__(self, folder: Path) -> None:
        """``folder``: this machine's own, where SQLite's lock lies."""
        self.fence = 0
        self._lock = _LOCKS[connection.vendor](folder)

    def begin(self) -> None:
        """Take the lock and a number above all earlier ones. Raises BusyError."""
        if not self._lock.take() and _seen_lately():
            raise BusyError("another sequencer runs")
        try:
            with transaction.atomic(), around("sequencer.begin"):
                self._lock.be_patient()
                row, _ = SequencerFence.objects.select_for_update().get_or_create(pk=SequencerFence.ROW)
                self.fence = row.fence + 1
                SequencerFence.objects.filter(pk=row.pk).update(fence=F("fence") + 1, at=timezone.now())
        except BaseException:
            self.end()
            raise

    def confirm(self, *, low: int) -> None:
        """In the writing transaction, before all else: it is still our turn, and stays so until the commit.

        Args:
            low: all entries up to this id will have their leaf.

        Raises:
            FencedError: it is not.
        """
        with around("sequencer.fence"):
            mine = SequencerFence.objects.filter(pk=SequencerFence.ROW, fence=self.fence)
            if not mine.update(at=timezone.now(), low=low, trouble="", trouble_words="", trouble_at=None):
                raise FencedError("another sequencer has begun")

    def end(self) -> None:
        """Let another one begin."""
        with suppress(Exception):  # a lost connection has given the lock back already
            self._lock.release()
