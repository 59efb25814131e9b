"""Routes whose body, either way, is too long to hold: which, how many at once, and what a caller states."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web

from protocol.tokens import body_hash

HASH_HEADER = "X-Content-SHA256"
MAX_STREAMS = 8
MAX_STREAMS_EACH = 4
BROKEN_OFF = web.RequestKey("broken_off", bool)
"""Set where an answer ended before its announced end: its status was sent, and says nothing of that."""
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
"""What a header of that name may ask for: one part. Others are answered with the whole."""
_HASH = re.compile(r"[0-9a-f]{64}")


class Flow(StrEnum):
    """Which way."""

    IN = "in"
    """The request's body: token and proof bind the hash that the caller states; the handler checks it."""
    OUT = "out"
    """The answer's."""


STREAMED: dict[tuple[str, str], Flow] = {
    ("PUT", "/v1/workspace/files"): Flow.IN,
    ("GET", "/v1/workspace/files"): Flow.OUT,
    ("GET", "/v1/workspace/archive"): Flow.OUT,
    ("PUT", "/v1/break-glass/files"): Flow.IN,
    ("GET", "/v1/break-glass/files"): Flow.OUT,
}
"""All streamed routes, each behind a session (``gate.ACCESS``). The gate reads all other bodies whole."""


def stated_hash(request: web.Request) -> str | None:
    """The body's hash as its sender states it, once and well-formed; else None."""
    values = request.headers.getall(HASH_HEADER, [])
    return values[0] if len(values) == 1 and _HASH.fullmatch(values[0]) else None


def assumed_hash(request: web.Request) -> str:
    """What token and proof must bind; unstated, an empty body (which the handler refuses)."""
    return stated_hash(request) or body_hash(b"")


class TooManyStreams(Exception):
    """No room for one more now."""


@dataclass
class Places:
    """How many streams run, in all and for each person."""

    most: int = MAX_STREAMS
    each: int = MAX_STREAMS_EACH
    _held: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def place(self, person: str) -> Iterator[None]:
        """Raises TooManyStreams."""
        if self._held.total() >= self.most or self._held[person] >= self.each:
            raise TooManyStreams
        self._held[person] += 1
        try:
            yield
        finally:
            self._held[person] -= 1
            if not self._held[person]:
                del self._held[person]
