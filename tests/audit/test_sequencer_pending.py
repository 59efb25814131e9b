"""No committed entry is skipped, whenever it was committed; and none is looked for longer than need be."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from psycopg import sql

from audit.models import Entry, Leaf, SequencerFence
from audit.sequencer import Sequencer, pending
from tests.audit.conftest import assert_sound, elsewhere, triggers_down, write

pytestmark = pytest.mark.django_db(transaction=True)

Other = psycopg.Connection[tuple[Any, ...]]


def insert(other: Other, number: int | None = None) -> int:
    """An entry on another connection, not committed. Answers its id."""
    pk = number or next_id(other)
    row = Entry(pk=pk, at=timezone.now(), action="late.done", actor_kind="system", event=f'{{"late":{pk}}}')
    fields = list(Entry._meta.concrete_fields)
    columns = sql.SQL(", ").join([sql.Identifier(str(field.column)) for field in fields])
    marks = sql.SQL(", ").join([sql.Placeholder()] * len(fields))
    statement = sql.SQL("INSERT INTO audit_entry ({}) VALUES ({})").format(columns, marks)
    other.execute(statement, [getattr(row, field.attname) for field in fields])
    return pk


def next_id(other: Other) -> int:
    """As the column's own default takes it."""
    found = other.execute("SELECT nextval(pg_get_serial_sequence('audit_entry', 'id'))").fetchone()
    assert found is not None
    return int(found[0])


def low() -> int:
    return SequencerFence.objects.get().low


def sequenced(pk: int) -> bool:
    return Leaf.objects.filter(entry_id=pk).exists()


def test_a_late_commit_is_not_skipped(make_sequencer: Callable[..., Sequencer]) -> None:
    """A smaller id is committed after a larger one was sequenced, many passes later. (Never on SQLite.)"""
    sequencer = make_sequencer()
    if connection.vendor == "sqlite":
        write(2)
        assert sequencer.once() == 2
        assert low() == Entry.objects.latest("pk").pk
        return
    with elsewhere() as other:
        late = insert(other)
        (early,) = write()
        assert late < early.pk
        assert sequencer.once() == 1
        for _ in range(5):
            assert sequencer.once() == 0
        assert low() < late
        other.commit()
    assert sequencer.once() == 1
    assert sequenced(late)
    sequencer.once()
    assert low() == early.pk
    assert_sound()


def test_an_id_without_a_transaction_id_yet(make_sequencer: Callable[..., Sequencer]) -> None:
    """A transaction takes its row's id before its own: by transaction ids it would not be seen."""
    sequencer = make_sequencer()
    if connection.vendor == "sqlite":
        assert sequencer.once() == 0
        return
    with elsewhere() as other:
        other.execute("LOCK TABLE audit_entry IN ROW EXCLUSIVE MODE")  # as INSERT does, before all else
        late = next_id(other)
        write()
        assert sequencer.once() == 1
        assert sequencer.once() == 0
        insert(other, late)
        other.commit()
    assert sequencer.once() == 1
    assert sequenced(late)


def test_a_transaction_that_is_prepared_is_waited_for(
    make_sequencer: Callable[..., Sequencer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepared, it goes by another name in the lock's table; and it may be committed a day later."""
    sequencer = make_sequencer()
    (entry,) = write()
    there = {"3/17"}
    monkeypatch.setattr(pending, "_writers", lambda: frozenset(there))
    sequencer.once()
    there.clear()
    there.add(pending.PREPARED)
    for _ in range(3):
        sequencer.once()
    assert low() < entry.pk
    there.clear()
    for _ in range(2):
        sequencer.once()
    assert low() == entry.pk


def test_what_fits_into_no_bundle_gets_no_leaf(make_sequencer: Callable[..., Sequencer]) -> None:
    """As it may stand there from before the triggers: it neither ends nor holds up the sequencer."""
    given: dict[str, Any] = {"at": timezone.now(), "action": "a.b", "actor_kind": "system", "actor_id": ""}
    events = ["", "{", "x" * 60_001, "ß" * 30_001, "{}"]
    with triggers_down():
        made = [Entry.objects.create(**dict(given, event=event)) for event in events]
    (entry,) = write()
    sequencer = make_sequencer(batch=3)
    assert [sequencer.once() for _ in range(3)] == [2, 0, 0]
    assert [sequenced(one.pk) for one in [*made, entry]] == [False] * 4 + [True] * 2
    assert low() == entry.pk


def test_a_rolled_back_one_holds_nothing_back(make_sequencer: Callable[..., Sequencer]) -> None:
    sequencer = make_sequencer()
    if connection.vendor == "postgresql":
        with elsewhere() as other:
            insert(other)
            other.rollback()
    (entry,) = write()
    sequencer.once()
    sequencer.once()
    assert low() == entry.pk


def test_readers_hold_nothing_back(make_sequencer: Callable[..., Sequencer]) -> None:
    """A backup that reads for hours does not make each pass look through all that came since."""
    sequencer = make_sequencer()
    if connection.vendor == "postgresql":
        with elsewhere() as other:
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute("SELECT count(*) FROM audit_entry")
            other.execute("CREATE TEMPORARY TABLE has_a_transaction_id (n int)")
            (entry,) = write()
            assert sequencer.once() == 1
            sequencer.once()
            assert low() == entry.pk
        return
    (entry,) = write()
    assert sequencer.once() == 1
    assert low() == entry.pk


def test_a_backlog_is_worked_off_in_passes(make_sequencer: Callable[..., Sequencer]) -> None:
    """And the mark rises only at the end of a whole look."""
    entries = write(25)
    sequencer = make_sequencer(batch=10)
    assert [sequencer.once() for _ in range(4)] == [10, 10, 5, 0]
    assert low() == entries[-1].pk
    assert_sound()


def test_a_new_one_looks_at_the_whole_table(make_sequencer: Callable[..., Sequencer]) -> None:
    """Also below the mark that an earlier one left."""
    write(2)
    sequencer = make_sequencer()
    sequencer.once()
    sequencer.end()
    (entry,) = write()
    SequencerFence.objects.update(low=entry.pk + 100)
    assert make_sequencer().once() == 1
