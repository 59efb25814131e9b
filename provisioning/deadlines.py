"""An end for a whole question over HTTP: httpx's time-outs begin anew with each byte that comes."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any


class Clock:
    """Ends a connection once its time is over, so that a byte now and then keeps nobody waiting.

    ``trace`` goes into the request's extensions; it is there that httpcore tells of its sockets.
    """

    def __init__(self) -> None:
        self.over = False
        """The time is over: an error has come of that, and what was read may be cut short."""
        self._socket: socket.socket | None = None

    @contextmanager
    def running(self, seconds: float) -> Iterator[None]:
        """It runs for the time of the block."""
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
            self._socket = info["return_value"].get_extra_info("socket")
            if self.over:
                self._end()

    def _end(self) -> None:
        self.over = True
        with suppress(OSError):
            if self._socket is not None:
                # Not the TLS socket's own method, which takes its state from under the one who reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
