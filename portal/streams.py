"""How many files of the record are on their way at once: each keeps a thread of a web process to its end.

One of each person or tenant, over all processes together, and two in a process, whose other threads are left
for pages and for the way to the machines. The place is given back with the answer's end, whether it was sent
whole or not; that of a process that died, or of a reader who takes nothing for two minutes, runs out.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Generic, TypeVar

from django.core.cache import caches

MOST = 2
"""In a process, of its four threads."""
LEASE_SECONDS, RENEW_SECONDS = 120, 30
WAIT_SECONDS = 10
"""What somebody is told to wait: nobody knows how long a file takes."""
OWN = "A download is on its way already. Wait for its end, then try again."
OTHERS = f"Others are downloading at this moment. Try again in {WAIT_SECONDS} s."
_running: set[str] = set()
_lock = RLock()  # __del__ may run while it is held
Part = TypeVar("Part", str, bytes)


class Busy(Exception):
    """No place for another download; the message says why. ``wait`` is in seconds."""

    wait = WAIT_SECONDS


class Place:
    """One place that is taken."""

    def __init__(self, who: str) -> None:
        self._key, self._token, self._renewed = f"stream:{who}", secrets.token_hex(8), time.monotonic()
        with _lock:
            if len(_running) >= MOST:
                raise Busy(OTHERS)
            if not caches["shared"].add(self._key, self._token, timeout=LEASE_SECONDS):
                raise Busy(OWN)
            _running.add(self._token)

    def leave(self) -> None:
        """Give it back; more than once does no harm."""
        with _lock:
            if self._token not in _running:
                return  # never taken, or left
            _running.discard(self._token)
        if caches["shared"].get(self._key) == self._token:
            caches["shared"].delete(self._key)

    def renew(self) -> None:
        """Say that the file is still on its way."""
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self._renewed = time.monotonic()
            caches["shared"].set(self._key, self._token, timeout=LEASE_SECONDS)

    def __del__(self) -> None:
        # Of an answer that was never sent.
        with suppress(Exception):
            self.leave()


class Stream(Generic[Part]):
    """The parts of an answer, whose end gives the place back. Django closes it with the answer."""

    def __init__(self, place: Place, parts: Iterator[Part]) -> None:
        self._place = place
        self._parts: Iterator[Part] = parts

    def __iter__(self) -> Iterator[Part]:
        return self

    def __next__(self) -> Part:
        try:
            part = next(self._parts)
        except BaseException:
            self._place.leave()
            raise
        self._place.renew()
        return part

    def close(self) -> None:
        """Give the place back, also in the middle."""
        self._place.leave()


@contextmanager
def place_for(who: str) -> Iterator[Place]:
    """A place for a download, which a :class:`Stream` takes on; given back at once if something is raised.

    Raises:
        Busy: there is none.
    """
    place = Place(who)
    try:
        yield place
    except BaseException:
        place.leave()
        raise


def forget() -> None:
    """As in a new process. For tests, whose answers nobody closes."""
    with _lock:
        _running.clear()
