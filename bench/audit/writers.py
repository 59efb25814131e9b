"""Entries per second that are on disk, and how long until one is under a signed checkpoint.

Each entry has a transaction of its own, as if each were a request. PostgreSQL must run with ``fsync`` and
``synchronous_commit``; :func:`check_durable` refuses to call anything else durable.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from threading import Event as Stop
from uuid import uuid4

from django.db import connection, connections, transaction

from audit import proofs
from audit.context import Actor, bind
from audit.models import Checkpoint, Entry, Leaf
from audit.sequencer.loop import run
from audit.services import record
from bench.audit.figures import Figures, spread

_fork = multiprocessing.get_context("fork")


def check_durable() -> None:
    """Raises SystemExit: this server may lose what it has committed."""
    with connection.cursor() as cursor:
        for name in ("fsync", "synchronous_commit"):
            cursor.execute(f"SHOW {name}")
            if cursor.fetchone() != ("on",):
                raise SystemExit(f"PostgreSQL runs with {name} off: nothing here would be durable.")


def durable(writers: int, seconds: float) -> int:
    """Entries per second by so many processes."""
    before, began = Entry.objects.count(), time.perf_counter()
    with _processes([(_write, (writer, seconds)) for writer in range(writers)]):
        pass
    return round((Entry.objects.count() - before) / (time.perf_counter() - began))


def delay(writers: int, per_second: float, seconds: float) -> Figures:
    """Milliseconds from an entry's commit to that of a checkpoint that holds it, while a sequencer runs.

    Args:
        per_second: entries by each writer; 0 for as many as it can.
    """
    stop = _fork.Event()
    committed: list[tuple[int, float]] = []
    with _processes([(_sequence, (stop,))]):
        _until(lambda: proofs.lag().entries == 0)
        signed = _fork.Queue()
        watching = _fork.Event()
        with _processes([(_watch, (watching, signed))]):
            with _processes([(_write, (writer, seconds, per_second)) for writer in range(1, writers)]):
                committed = _write(0, seconds, per_second)
            _until(lambda: proofs.lag().entries == 0)
            watching.set()
            heads: list[tuple[int, float]] = signed.get(timeout=60)
        stop.set()
    return spread(_delays(committed, heads))


def _delays(committed: list[tuple[int, float]], heads: list[tuple[int, float]]) -> list[float]:
    indexes = dict(
        Leaf.objects.filter(entry__in=[pk for pk, _ in committed]).values_list("entry_id", "index")
    )
    taken, at = [], iter(heads)
    size, seen = next(at)
    for index, began in sorted((indexes[pk], when) for pk, when in committed):
        while size <= index:
            size, seen = next(at)
        taken.append(max(0.0, seen - began))
    return taken


def _write(writer: int, seconds: float, per_second: float = 0.0) -> list[tuple[int, float]]:
    """Entries' ids with the time of their commit."""
    written: list[tuple[int, float]] = []
    tenant, actor = uuid4(), Actor("user", f"{writer}")
    began = time.perf_counter()
    with bind(request_id=uuid4().hex):
        while time.perf_counter() - began < seconds:
            with transaction.atomic():
                entry = record(
                    action="bench.written",
                    actor=actor,
                    tenant_id=tenant,
                    target=("runtime", tenant),
                    data={"kind": "start", "operation": str(tenant), "number": len(written)},
                )
            written.append((entry.pk, time.perf_counter()))
            if per_second:
                time.sleep(max(0.0, began + len(written) / per_second - time.perf_counter()))
    return written


def _watch(stop: Event, signed: "multiprocessing.Queue[list[tuple[int, float]]]") -> None:
    """Each checkpoint's size with the time when it could first be read, looked for every 2 ms."""
    heads: list[tuple[int, float]] = []
    ended = False
    while not ended:
        ended = stop.is_set()
        size = Checkpoint.objects.order_by("-size").values_list("size", flat=True).first() or 0
        if not heads or heads[-1][0] != size:
            heads.append((size, time.perf_counter()))
        time.sleep(0.002)
    signed.put(heads)


def _sequence(stop: Event) -> None:
    class Both(Stop):
        def is_set(self) -> bool:
            return stop.is_set()

        def wait(self, timeout: float | None = None) -> bool:
            return stop.wait(timeout)

    run(Both())


def _until(done: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("The sequencer does not catch up; see its messages above.")
        time.sleep(0.01)


@contextmanager
def _processes(works: Sequence[tuple[Callable[..., object], tuple[object, ...]]]) -> Iterator[None]:
    """Processes with a connection each, joined at the end; one that fails ends the run."""
    connections.close_all()
    started = [_fork.Process(target=work, args=given, daemon=True) for work, given in works]
    for process in started:
        process.start()
    yield
    for process in started:
        process.join(180)
        if process.exitcode != 0:
            raise SystemExit(f"A process of the measurement ended with {process.exitcode}.")
