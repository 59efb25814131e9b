"""Distributions of times, in milliseconds."""

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import quantiles

Figures = dict[str, float]


def spread(seconds: Sequence[float]) -> Figures:
    """P50, P95 and P99."""
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else list(seconds) * 99
    return {f"p{at}": round(cuts[at - 1] * 1000, 3) for at in (50, 95, 99)}


def timed(calls: Iterable[Callable[[], object]]) -> list[float]:
    """How many seconds each call takes."""
    taken = []
    for call in calls:
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken
