"""An end for a whole question over HTTP: httpx's time-outs begin anew with each byte that comes."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Timer
from typing import Any
from weakref import WeakSet


class Sockets:
    """Those that one client has opened: a kept connection is opened once, and told of once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: WeakSet[Any] = WeakSet()

    def add(self, found: Any) -> None:
        """One more; forgotten as soon as nobody else holds it."""
        with self._lock:
            self._known.add(found)

    def shut(self) -> None:
        """Whoever reads from one of them, or writes, gets an error at once."""
        with self._lock:
            known = list(self._known)
        for each in known:
            with suppress(OSError):
                # Not the TLS socket's own method, which takes its state from under the one who reads.
                socket.socket.shutdown(each, socket.SHUT_RDWR)


class Clock:
    """Ends a connection once its time is over, so that a byte now and then keeps nobody waiting.

    ``trace`` goes into the request's extensions; it is there that httpcore tells of its sockets.
    """

    def __init__(self) -> None:
        self.over = False
        """The time is over: an error has come of that, and what was read may be cut short."""
        self._sockets = Sockets()

    @contextmanager
    def running(self, seconds: float, sockets: Sockets | None = None) -> Iterator[None]:
        """It runs for the time of the block. ``sockets``: those that the client has already."""
        self._sockets = sockets or self._sockets
        timer = Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of the connection's socket; after TLS has begun it is another."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._sockets.add(info["return_value"].get_extra_info("socket"))
            if self.over:
                self._end()

    def _end(self) -> None:
        self.over = True
        self._sockets.shut()
