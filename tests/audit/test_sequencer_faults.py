"""Whatever befalls the sequencer at whatever instant: the tree only grows, and the next one finishes the work."""

import re
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.db import Error, connection

from audit.models import Checkpoint, Leaf
from audit.sequencer import BusyError, FencedError, Sequencer, loop, sequence_once, tree, turn
from tests.audit.conftest import assert_sound, elsewhere, write
from tests.audit.nursery import FAILED, Nursery
from tests.races import at_once

pytestmark = pytest.mark.django_db(transaction=True)

POINTS = ("begin", "fence", "leaves", "tiles", "checkpoint", "memory_write", "memory_rename")
INSTANTS = [f"sequencer.{point}:{when}=kill" for point in POINTS for when in ("before", "during", "after")]
INSTANTS += [f"sequencer.pass:during=kill:{milliseconds}" for milliseconds in (1, 5, 20, 40, 60, 80)]
ROOM = Path(tree.__file__).parent


def old_heads() -> list[tuple[int, str]]:
    return list(Checkpoint.objects.order_by("size").values_list("size", "note"))


def all_done() -> None:
    """The next sequencer finishes, and nothing that was signed before has changed."""
    before = old_heads()
    assert_sound()
    sequence_once()
    assert_sound()
    assert not Leaf.objects.filter(entry=None).exists()
    assert old_heads()[: len(before)] == before


def test_each_write_has_its_point() -> None:
    """What creates, changes or renames stands inside a fault point; and each point is in the kill matrix."""
    named = {
        name
        for path in ROOM.glob("*.py")
        for name in re.findall(r'around\("sequencer\.(\w+)"\)', path.read_text())
    }
    assert named == {*POINTS, "pass"}
    writes = r"\.(bulk_create|objects\.create|update|get_or_create|write|replace)\("
    for name in ("tree.py", "turn.py", "memory.py"):
        lines = (ROOM / name).read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(writes, line) and "dataclasses" not in line:
                around = "\n".join(lines[max(0, number - 5) : number + 1])
                assert "around(" in around or "memory.write(" in line, f"{name}: {line.strip()}"


@pytest.mark.parametrize("fault", INSTANTS)
def test_killed_at_any_instant(fault: str, nursery: Nursery, memory_folder: Path) -> None:
    """A tile becomes full in the pass that is killed, so every write takes place in it."""
    write(250)
    sequence_once()
    write(300)
    code = nursery.sequence(memory_folder, fault)
    if "pass" not in fault:  # that one may have been done in time
        assert code == -signal.SIGKILL
    all_done()
    assert Leaf.objects.count() == 550


@pytest.mark.parametrize("point", POINTS)
def test_an_error_at_any_write(point: str, nursery: Nursery, memory_folder: Path) -> None:
    """As a kill, but the process lives to clean up: nothing half-written is committed then either."""
    write(250)
    sequence_once()
    write(300)
    assert nursery.sequence(memory_folder, f"sequencer.{point}:after=raise") == FAILED
    all_done()


def test_two_at_once_are_one_after_the_other() -> None:
    """The lock lets one in, who was seen just now; the other says that it is busy. Nothing is done twice."""
    sequence_once()
    write(100)
    ends = at_once([sequence_once, sequence_once, sequence_once], BusyError)
    assert {str(end) for end in ends} <= {"100", "0", "another sequencer runs"}
    assert_sound()
    assert Leaf.objects.count() == 100


class _NoLock:
    """A lock that everybody gets."""

    def __init__(self, folder: Path) -> None:
        pass

    def take(self) -> bool:
        return True

    def release(self) -> None:
        pass

    def be_patient(self) -> None:
        pass


def test_without_the_lock_the_fence_still_holds(monkeypatch: pytest.MonkeyPatch, memory_folder: Path) -> None:
    """Several that all think that it is their turn: only the newest can write."""
    monkeypatch.setitem(turn._LOCKS, connection.vendor, _NoLock)
    write(400)

    def turns(machine: str) -> None:
        for _ in range(5):
            try:
                sequence_once(batch=10, folder=memory_folder / machine)
            except FencedError:
                continue

    at_once([partial(turns, "a"), partial(turns, "b"), partial(turns, "c")])
    sequence_once()
    assert_sound()
    assert Leaf.objects.count() == 400


def test_a_stopped_one_that_wakes_writes_nothing(make_sequencer: Callable[..., Sequencer]) -> None:
    """It lost its lock while it slept, and another has begun since."""
    old = make_sequencer()
    write(2)
    assert old.once() == 2
    old.end()
    new = make_sequencer()
    write(3)
    heads = old_heads()
    with pytest.raises(FencedError):
        old.once()
    assert old_heads() == heads
    assert new.once() == 3
    assert_sound()


def test_an_idle_old_one_notices_too(make_sequencer: Callable[..., Sequencer]) -> None:
    old = make_sequencer()
    old.end()
    make_sequencer()
    with pytest.raises(FencedError):
        old.once()


def test_a_second_one_waits_until_the_first_ends(make_sequencer: Callable[..., Sequencer]) -> None:
    first = make_sequencer()
    assert at_once([sequence_once], BusyError) == ["another sequencer runs"]
    first.end()
    assert at_once([sequence_once], BusyError) == [0]


def _cut_postgresql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with elsewhere() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


_CUT: dict[str, Callable[[], None]] = {"postgresql": _cut_postgresql, "sqlite": connection.close}


def cutting(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the connection goes away in the middle of each pass, when its leaves are written."""
    whole = tree.sign

    def cut(*given: Any) -> None:
        _CUT[connection.vendor]()
        whole(*given)

    monkeypatch.setattr(tree, "sign", cut)


def test_a_lost_connection(make_sequencer: Callable[..., Sequencer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut in the middle of a pass: the pass is gone as a whole, and so is the turn."""
    write(10)
    sequencer = make_sequencer()
    with monkeypatch.context() as patch:
        cutting(patch)
        with pytest.raises(Error):
            sequencer.once()
    sequencer.end()
    connection.close()
    assert not Leaf.objects.exists()
    assert sequence_once() == 10
    assert_sound()


def test_the_process_outlives_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins anew by itself, a moment later."""
    write(10)
    with monkeypatch.context() as patch:
        cutting(patch)
        assert loop.one_turn(Event()) == loop.RETRY_SECONDS
    assert not Leaf.objects.exists()
    stop = Event()
    process = threading.Thread(target=loop.run, args=(stop,))
    process.start()
    try:
        until(lambda: Leaf.objects.count() == 10)
        write(5)
        until(lambda: Leaf.objects.count() == 15)
    finally:
        stop.set()
        process.join(20)
    assert not process.is_alive()
    assert_sound()


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
