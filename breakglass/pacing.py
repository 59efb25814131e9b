"""What this process is doing for a guest right now, and what it has just failed to do.

The sweep sends again what is not done. A guest that does not answer keeps a thread until the call gives up;
without this, each sweep would take another one, and the ends of access in other guests would wait.
"""

import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

BACK_OFF_SECONDS = 10.0
"""After a call that failed; only for repetitions, never for what somebody has just asked."""


class Pace:
    """Of one process; a process that dies forgets it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: set[Hashable] = set()
        self._not_before: dict[Hashable, float] = {}

    @contextmanager
    def alone(self, *key: Hashable) -> Iterator[bool]:
        """Whether nobody else in this process does the same. An exception in the block is a failure."""
        with self._lock:
            free = key not in self._under_way
            self._under_way.add(key)
        if not free:
            yield False
            return
        try:
            yield True
        except BaseException:
            with self._lock:
                self._not_before[key] = time.monotonic() + BACK_OFF_SECONDS
            raise
        else:
            with self._lock:
                self._not_before.pop(key, None)
        finally:
            with self._lock:
                self._under_way.discard(key)

    def due(self, *key: Hashable) -> bool:
        """Whether it is worth repeating: not under way, and not failed a moment ago."""
        with self._lock:
            late = self._not_before.get(key, 0.0)
            if late <= time.monotonic():
                self._not_before.pop(key, None)
            return key not in self._under_way and late <= time.monotonic()


PACE = Pace()
