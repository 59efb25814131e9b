"""How many requests a minute a tenant's members may make, over all web processes together.

A sliding minute from two counters: what this minute has seen, and of the last one the share that still lies
within sixty seconds. A request that is refused does not count, so whoever waits as told gets through.
"""

import math
import time
from contextlib import suppress
from uuid import UUID

from django.core.cache import caches
from django.db import transaction

from audit.context import Actor
from audit.services import record

WINDOW = 60
"""Seconds."""
API, ROUTED = "api_per_minute", "routed_per_minute"
BREAK_GLASS = "break_glass"  # the same for every plan, and no part of it
DOWNLOADS, BUNDLES = "record_downloads", "record_bundles"  # the same for every plan
LABELS = {
    API: "API requests",
    ROUTED: "requests to the machine",
    BREAK_GLASS: "requests by a break-glass ticket",
    DOWNLOADS: "downloads of the record",
    BUNDLES: "bundles of entries",
}


class RateExceeded(Exception):
    """Too many. ``wait`` is in whole seconds, 1 at least."""

    def __init__(self, rate: str, limit: int, wait: int) -> None:
        super().__init__(
            f"Your plan allows {limit} {LABELS[rate]} a minute for all members together. "
            f"Try again in {wait} s."
        )
        self.rate, self.limit, self.wait = rate, limit, wait


def spend(rate: str, tenant_id: UUID, limit: int) -> None:
    """Count one request.

    Raises:
        RateExceeded: ``limit`` is reached; nothing was counted.
    """
    cache, now = caches["shared"], time.time()
    key = _key(rate, tenant_id, int(now // WINDOW))
    before = _of(_key(rate, tenant_id, int(now // WINDOW) - 1))
    cache.add(key, 0, timeout=3 * WINDOW)
    try:
        # Counted before it is looked at, so that two at once cannot both be the last one.
        count = cache.incr(key)
    except ValueError:
        count = 1  # it was forgotten in this very moment
    share = 1 - now % WINDOW / WINDOW
    if count + before * share <= limit:
        return
    with suppress(ValueError):
        cache.incr(key, -1)
    raise RateExceeded(rate, limit, _wait(count - 1, before, limit, now % WINDOW))


def used(rate: str, tenant_id: UUID) -> int:
    """How many requests count in this moment."""
    now = time.time()
    count = _of(_key(rate, tenant_id, int(now // WINDOW)))
    before = _of(_key(rate, tenant_id, int(now // WINDOW) - 1))
    return math.ceil(count + before * (1 - now % WINDOW / WINDOW))


@transaction.atomic
def note_refusal(*, actor: Actor, tenant_id: UUID, refused: RateExceeded) -> None:
    """Put the refusal on record: the first of each minute, or a flood would fill the record, too."""
    if caches["shared"].add(f"rate-refused:{refused.rate}:{tenant_id}", 1, timeout=WINDOW):
        record(
            action="rate.refused",
            actor=actor,
            tenant_id=tenant_id,
            target=("tenant", tenant_id),
            data={"rate": refused.rate, "limit": refused.limit},
        )


def _wait(count: int, before: int, limit: int, elapsed: float) -> int:
    """Seconds until one more fits, if nobody else asks: in this minute, or in the next."""
    if count + 1 <= limit and before:
        return max(1, math.ceil(WINDOW * (1 - (limit - count - 1) / before) - elapsed))
    rest = WINDOW - elapsed
    return max(1, math.ceil(rest + (WINDOW * (1 - (limit - 1) / count) if count > limit - 1 else 0)))


def _key(rate: str, tenant_id: UUID, minute: int) -> str:
    return f"rate:{rate}:{tenant_id}:{minute}"


def _of(key: str) -> int:
    value = caches["shared"].get(key, 0)
    return value if isinstance(value, int) else 0
