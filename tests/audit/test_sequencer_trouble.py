"""What the sequencer refuses to sign: a tree in the database that is not the one it signed."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from audit.alerts import alerts
from audit.models import Checkpoint, Entry, SequencerFence
from audit.sequencer import BusyError, FencedError, Sequencer, TroubleError, memory, sequence_once, turn
from audit.sequencer.memory import Signed
from protocol.notes import new_key
from tests.audit.conftest import assert_sound, elsewhere, execute, triggers_down, write

pytestmark = pytest.mark.django_db(transaction=True)


def refused(code: str) -> None:
    """A whole turn signs nothing, and says so where the staff's pages read it."""
    heads = Checkpoint.objects.count()
    write()
    with pytest.raises(TroubleError) as caught:
        sequence_once()
    assert caught.value.code == code
    row = SequencerFence.objects.get()
    assert (row.trouble, row.trouble_words) == (code, str(caught.value))
    assert row.trouble_at is not None
    assert Checkpoint.objects.count() == heads


def set_back(size: int) -> None:
    """As a restored backup leaves the tables."""
    with triggers_down():
        execute("DELETE FROM audit_checkpoint WHERE size > %s", [size])
        execute('DELETE FROM audit_leaf WHERE "index" >= %s', [size])


def test_a_database_that_was_set_back(memory_folder: Path) -> None:
    """The memory is left as it was: it is what later proves the loss."""
    write(3)
    sequence_once()
    write(2)
    sequence_once()
    before = memory.read(memory_folder)
    set_back(3)
    refused("rolled_back")
    assert memory.read(memory_folder) == before


def test_an_emptied_database() -> None:
    write(3)
    sequence_once()
    set_back(0)
    refused("rolled_back")


def test_the_trouble_is_over_when_the_database_is_whole_again() -> None:
    write(3)
    sequence_once()
    head = Checkpoint.objects.get()
    with triggers_down():
        execute("DELETE FROM audit_checkpoint")
        execute("CREATE TABLE kept AS SELECT * FROM audit_leaf")
        execute("DELETE FROM audit_leaf")
    refused("rolled_back")
    first_seen = SequencerFence.objects.get().trouble_at
    refused("rolled_back")
    assert SequencerFence.objects.get().trouble_at == first_seen
    with triggers_down():
        execute("INSERT INTO audit_leaf SELECT * FROM kept")
        execute("DROP TABLE kept")
    Checkpoint.objects.create(size=head.size, root=head.root, note=head.note, at=head.at)
    assert sequence_once() == 2
    assert SequencerFence.objects.get().trouble == ""
    assert_sound()


@pytest.mark.parametrize("size", [3, 2])
def test_other_entries_than_were_signed(memory_folder: Path, size: int) -> None:
    """Another root of the same size, or of one that this tree has passed."""
    write(3)
    sequence_once()
    known = memory.read(memory_folder)
    assert known is not None
    memory.write(memory_folder, Signed(known.origin, size, b"\1" * 32))
    refused("forked")


def test_an_older_memory_is_brought_up_to_date(memory_folder: Path) -> None:
    """A sequencer that was killed between the commit and its note goes on; the note catches up."""
    write(3)
    sequence_once()
    old = memory.read(memory_folder)
    assert old is not None
    write(2)
    sequence_once()
    new = memory.read(memory_folder)
    memory.write(memory_folder, old)
    assert sequence_once() == 0
    assert memory.read(memory_folder) == new


def test_another_logs_memory(memory_folder: Path) -> None:
    write()
    sequence_once()
    memory.write(memory_folder, Signed("example.org/log/other", 1, b"\1" * 32))
    refused("memory")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"origin": "x", "size": 0, "root": "00"}', "\x00" * 99])
def test_a_memory_that_cannot_be_read(memory_folder: Path, text: str) -> None:
    """It is never taken for no memory at all."""
    write()
    sequence_once()
    (memory_folder / memory.FILE).write_text(text)
    refused("memory")
    assert (memory_folder / memory.FILE).read_text() == text


@pytest.mark.parametrize(
    "statement",
    [
        'DELETE FROM audit_leaf WHERE "index" = 299',
        'DELETE FROM audit_leaf WHERE "index" = 270',
        "DELETE FROM audit_checkpoint WHERE size = 300",
        "DELETE FROM audit_tile",
        "UPDATE audit_checkpoint SET size = 299 WHERE size = 300",
        'UPDATE audit_leaf SET hash = (SELECT root FROM audit_checkpoint LIMIT 1) WHERE "index" = 280',
        "UPDATE audit_checkpoint SET root = (SELECT hash FROM audit_leaf LIMIT 1)",
        "UPDATE audit_tile SET root = (SELECT hash FROM audit_leaf LIMIT 1)",
    ],
)
def test_a_tree_that_does_not_belong_together(statement: str, memory_folder: Path) -> None:
    """Noticed even on a machine that remembers nothing."""
    write(300)
    sequence_once()
    (memory_folder / memory.FILE).unlink()
    with triggers_down():
        execute(statement)
    refused("torn")
    assert not (memory_folder / memory.FILE).exists()


def test_a_head_signed_by_another_key(make_sequencer: Callable[..., Sequencer]) -> None:
    """A database from elsewhere, or a key that was changed without a new log."""
    write()
    sequence_once()
    seed, vkey = new_key("portal.localhost/log/other")
    with pytest.raises(TroubleError) as caught:
        make_sequencer(seed=seed, vkey=vkey)
    assert caught.value.code == "other_key"


def test_a_head_that_vanishes_under_a_running_one(make_sequencer: Callable[..., Sequencer]) -> None:
    sequencer = make_sequencer()
    write(3)
    sequencer.once()
    write(2)
    sequencer.once()
    set_back(3)
    write()
    with pytest.raises(TroubleError) as caught:
        sequencer.once()
    assert caught.value.code == "rolled_back"


def test_a_head_that_somebody_else_wrote(make_sequencer: Callable[..., Sequencer]) -> None:
    sequencer = make_sequencer()
    write(3)
    sequencer.once()
    Checkpoint.objects.create(size=4, root=b"\1" * 32, note="-", at=timezone.now())
    write()
    with pytest.raises(TroubleError) as caught:
        sequencer.once()
    assert caught.value.code == "forked"


def silent(seconds: float) -> None:
    SequencerFence.objects.update(at=timezone.now() - timedelta(seconds=seconds))


def test_a_lock_that_no_sequencer_holds_stops_nothing(
    make_sequencer: Callable[..., Sequencer], tmp_path: Path
) -> None:
    """Anybody who may connect can take it. Whoever holds it must also be seen in the fence."""
    sequencer = make_sequencer()
    write()
    outsider = elsewhere() if connection.vendor == "postgresql" else nullcontext()
    with outsider as other:
        if other is not None:
            sequencer.end()
            other.execute("SELECT pg_advisory_lock(%s)", [turn._KEY])
        with pytest.raises(BusyError):
            make_sequencer()
        silent(46)
        assert make_sequencer().once() == 1
    with pytest.raises(FencedError):
        write()
        sequencer.once()


def test_lag_is_told_whatever_else_waits() -> None:
    """One entry of the future does not hide those behind it; nor does silence without entries."""
    sequence_once()
    assert not [one for one in alerts() if one.code == "sequencer_lag"]
    given: dict[str, Any] = {"action": "a.b", "actor_kind": "system", "actor_id": "", "event": "{}"}
    with triggers_down():
        Entry.objects.create(**dict(given, at=timezone.now() + timedelta(days=9999)))
        Entry.objects.create(**dict(given, at=timezone.now() - timedelta(minutes=5)))
    assert [one.code for one in alerts()] == ["sequencer_lag"]


def test_a_silent_sequencer_is_told() -> None:
    write()
    sequence_once()
    assert alerts() == []
    silent(61)
    assert [one.code for one in alerts()] == ["sequencer_lag"]


def test_the_command_says_it() -> None:
    write(3)
    sequence_once()
    set_back(0)
    with pytest.raises(CommandError, match="a tree of 3 was signed, and 0 are here"):
        call_command("sequencer", "--once")
