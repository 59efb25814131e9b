"""The door between TLS and HTTP: who may come in, how many at once, and for how long in silence."""

import asyncio
import weakref
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from guest.agent.callers import Caller, caller_of
from guest.agent.tls import peer_certificate
from guest.agent.trust import TrustStore

MAX_CONNECTIONS = 64


class Doors:
    """Makes one door per connection, lets at most ``limit`` be open and closes those silent too long."""

    server: web.Server
    """Where those who may come in are led to; set before the first connection."""

    def __init__(self, trust: TrustStore, *, silence: float, limit: int = MAX_CONNECTIONS) -> None:
        """``silence``: the seconds that a connection may be open without a whole request head."""
        self.trust = trust
        self.limit = limit
        self.silence = silence
        self._callers: weakref.WeakKeyDictionary[asyncio.BaseTransport, Caller] = weakref.WeakKeyDictionary()
        self._timers: weakref.WeakKeyDictionary[asyncio.BaseTransport, asyncio.TimerHandle] = (
            weakref.WeakKeyDictionary()
        )

    def __call__(self) -> asyncio.Protocol:
        return _Door(self)

    def middleware(self) -> Middleware:
        """Suspends the silence timer while a request is handled: the handler has its own time limits."""

        @web.middleware
        async def timed(request: web.Request, handler: Handler) -> web.StreamResponse:
            transport = request.transport
            self._stop_timer(transport)
            try:
                return await handler(request)
            finally:
                self.start_timer(transport)

        return timed

    def admit(self, transport: asyncio.Transport) -> bool:
        """Whether whoever holds this connection may come in, by the trust of this moment."""
        certificate = peer_certificate(transport.get_extra_info("ssl_object"))
        caller = None if certificate is None else caller_of(certificate, self.trust.now)
        if caller is None:
            self._callers.pop(transport, None)
            return False
        self._callers[transport] = caller
        return True

    def caller(self, request: web.Request) -> Caller | None:
        """Who sent this request."""
        transport = request.transport
        return None if transport is None else self._callers.get(transport)

    def judge_again(self) -> None:
        """After a change of trust: end the connections of those that may no longer come in."""
        for transport in list(self._callers):
            if isinstance(transport, asyncio.Transport) and not self.admit(transport):
                transport.abort()

    def _stop_timer(self, transport: asyncio.BaseTransport | None) -> None:
        timer = self._timers.pop(transport, None) if transport else None
        if timer:
            timer.cancel()

    def start_timer(self, transport: asyncio.BaseTransport | None) -> None:
        """Close the connection unless a request comes in time."""
        if transport is None or transport.is_closing():
            return
        self._stop_timer(transport)
        loop = asyncio.get_running_loop()
        self._timers[transport] = loop.call_later(self.silence, _abort, weakref.ref(transport))


class _Door(asyncio.Protocol):
    """Stands where HTTP will stand once the caller is known, so that not a byte of a stranger is parsed."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        if not self._doors.admit(stream):
            stream.abort()
            return
        if len(self._doors.server.connections) >= self._doors.limit:
            stream.abort()
            return
        handler = self._doors.server()
        stream.set_protocol(handler)
        handler.connection_made(stream)
        self._doors.start_timer(stream)


def _abort(reference: "weakref.ref[asyncio.BaseTransport]") -> None:
    transport = reference()
    if isinstance(transport, asyncio.Transport):
        transport.abort()
