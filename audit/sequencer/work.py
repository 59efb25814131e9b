"""The sequencer's work: one pass, and a whole turn of them."""

import logging
import time
from pathlib import Path

from django.conf import settings
from django.db import transaction

from audit import log
from audit.faults import around
from audit.sequencer import memory, tree, trouble
from audit.sequencer.growth import Growth
from audit.sequencer.memory import Signed
from audit.sequencer.pending import Pending
from audit.sequencer.trouble import TroubleError
from audit.sequencer.turn import Turn
from protocol.notes import VerifierKey

BATCH = 5_000
"""Entries of one pass, at most: a backlog is worked off in several."""
HEARTBEAT_SECONDS = 10.0
"""How often an idle sequencer says that it is there."""
_log = logging.getLogger(__name__)


class Sequencer:
    """One turn. After any error it is spent: begin another one, which reads everything anew."""

    def __init__(self, *, seed: bytes, vkey: VerifierKey, folder: Path, batch: int = BATCH) -> None:
        """
        Args:
            seed: the log's secret key, 32 bytes.
            folder: this machine's own; what was signed last is remembered there.
            batch: entries of one pass, at most.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._seed, self._vkey, self._folder = seed, vkey, folder
        self._turn = Turn(folder)
        self._pending = Pending(batch)
        self._growth = Growth()
        self._said = 0.0

    def begin(self) -> None:
        """Take the turn, and hold the database against what was signed.

        Raises:
            BusyError: another sequencer runs.
            TroubleError: the database does not extend what was signed.
        """
        self._turn.begin()
        try:
            self._growth = tree.load(self._vkey)
            tree.compare(self._growth, self._vkey, self._folder)
        except BaseException:
            self.end()
            raise

    def once(self) -> int:
        """One pass: give waiting entries their leaves and sign. Answers how many there were.

        Raises:
            FencedError: another sequencer has begun.
            TroubleError: the database was changed under us.
            DatabaseError, OSError: the database or the disk does not do it. Nothing is lost.
        """
        ids = self._pending.look()
        low = self._pending.mark_after(ids)
        if ids:
            self._extend(ids, low)
        elif low != self._pending.low or time.monotonic() - self._said > HEARTBEAT_SECONDS:
            with transaction.atomic():
                self._turn.confirm(low=low)
                tree.confirm_head(self._growth)
            self._said = time.monotonic()
        self._pending.took(ids)
        return len(ids)

    def drain(self) -> int:
        """Passes until nothing waits. Answers how many entries there were."""
        total = 0
        while added := self.once():
            total += added
        return total

    def end(self) -> None:
        """Let another sequencer begin."""
        self._turn.end()

    def _extend(self, ids: list[int], low: int) -> None:
        growth = self._growth.copy()
        with around("sequencer.pass"):
            with transaction.atomic():
                self._turn.confirm(low=low)
                tree.confirm_head(growth)
                tree.append(growth, ids)
                tree.sign(growth, self._vkey, self._seed)
            # Only what is committed was ever shown to anybody: before, there is nothing to remember.
            self._growth, self._said = growth, time.monotonic()
            memory.write(self._folder, Signed(self._vkey.name, growth.size, growth.root()))


def sequence_once(*, folder: Path | None = None, batch: int = BATCH) -> int:
    """A whole turn in this process, until nothing waits: for tests and ``manage.py sequencer --once``.

    Raises:
        BusyError: another sequencer runs.
        TroubleError: the database does not extend what was signed; the staff's pages show it.
    """
    sequencer = Sequencer(
        seed=settings.LOG_KEY, vkey=log.vkey(), folder=folder or settings.SEQUENCER_DIR, batch=batch
    )
    try:
        sequencer.begin()
        return sequencer.drain()
    except TroubleError as error:
        trouble.tell(error)
        raise
    finally:
        sequencer.end()
