"""Exchanges with the gateway that last: how many at once, and their end when their member may no longer."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web

from guest.agent.gate import SESSION, Gate
from guest.agent.gateway.errors import GatewayRefused
from guest.agent.gateway.lifecycle import Gateway
from guest.agent.sessions import Session
from guest.agent.streams import Places, TooManyStreams

SOCKETS, SOCKETS_EACH = 8, 4
TALKS, TALKS_EACH = 8, 4


class Kind(StrEnum):
    """What lasts."""

    SOCKET = "socket"
    TALK = "talk"
    """A request to the API; its answer may stream."""
    FILE = "file"
    """A part of the gateway's page: short, and not counted."""


class End(StrEnum):
    """Why one was cut."""

    SESSION = "the session has ended"
    GATEWAY = "the gateway is not running"
    AGE = "connect again"
    CALLER = "the caller has gone"


@dataclass(eq=False)
class _Life:
    request: web.Request
    session: Session
    kind: Kind
    cut: Callable[[End], None]
    began: float


class Lives:
    """All that last. Looked at four times a second (``Place.tick``)."""

    def __init__(self, gateway: Gateway, gate: Gate, lifetime: float) -> None:
        self._gateway, self._gate, self._lifetime = gateway, gate, lifetime
        self._places = {Kind.SOCKET: Places(SOCKETS, SOCKETS_EACH), Kind.TALK: Places(TALKS, TALKS_EACH)}
        self._lives: set[_Life] = set()

    @contextmanager
    def living(self, request: web.Request, kind: Kind, cut: Callable[[End], None]) -> Iterator[Session]:
        """Hold one for the time of the block; ``cut`` is called, once, when it must end.

        Raises:
            GatewayRefused: 429 ``too_many``.
        """
        session: Session = request[SESSION]
        life = _Life(request, session, kind, cut, time.monotonic())
        places = self._places.get(kind)
        if places is None:
            yield from self._held(life)
            return
        try:
            with places.place(session.member.key.fingerprint):
                yield from self._held(life)
        except TooManyStreams:
            text = f"too many at once: close another {kind} of the gateway first"
            raise GatewayRefused(429, "too_many", text) from None

    def _held(self, life: _Life) -> Iterator[Session]:
        self._lives.add(life)
        try:
            yield life.session
        finally:
            self._lives.discard(life)

    async def watch(self, tick: float) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(tick)
            self.look()

    def look(self) -> None:
        """Cut those whose time has come."""
        now = time.monotonic()
        for life in list(self._lives):
            end = self._end_of(life, now)
            if end is not None:
                self._lives.discard(life)
                life.cut(end)

    def _end_of(self, life: _Life, now: float) -> End | None:
        transport = life.request.transport
        if not self._gate.sessions.lives(life.session, now):
            return End.SESSION
        if not self._gateway.reachable:
            return End.GATEWAY
        if transport is None or transport.is_closing():
            return End.CALLER
        if life.kind is Kind.SOCKET and now - life.began > self._lifetime:
            return End.AGE
        return None
