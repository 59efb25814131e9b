"""Entries to sequence, and sequencers in this process and in others."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction

from audit import log, triggers
from audit.context import command
from audit.models import Checkpoint, Entry, Leaf, Tile
from audit.sequencer import Sequencer
from audit.services import record
from protocol import checkpoints, merkle
from tests.audit.nursery import Nursery

TESTER = command("test")


def write(count: int = 1) -> list[Entry]:
    """Some entries, committed in one transaction."""
    with transaction.atomic():
        return [record(action="thing.done", actor=TESTER, target=("thing", n)) for n in range(count)]


def hashes() -> list[bytes]:
    """The leaf hashes that the stored text has, in the order of the leaves."""
    rows = Entry.objects.filter(leaf__isnull=False).order_by("leaf__index").values_list("event", flat=True)
    return [hashlib.sha256(b"\x00" + event.encode()).digest() for event in rows]


def assert_sound() -> None:
    """All leaves, tiles and checkpoints are what the entries' text makes them, and each head is signed."""
    expected = hashes()
    leaves = list(Leaf.objects.order_by("index").values_list("index", "hash"))
    assert [index for index, _ in leaves] == list(range(len(expected)))
    assert [bytes(hash_) for _, hash_ in leaves] == expected
    for row in Checkpoint.objects.order_by("size"):
        opened = checkpoints.opened(row.note, log.vkey())
        assert (opened.size, opened.root) == (row.size, bytes(row.root))
        assert opened.root == merkle.root(expected[: row.size])
    newest = Checkpoint.objects.order_by("-size").first()
    assert (newest.size if newest else 0) == len(expected)
    tiles = {(tile.level, tile.index): tile for tile in Tile.objects.all()}
    full = [merkle.root(expected[at : at + 256]) for at in range(0, len(expected) - 255, 256)]
    assert [bytes(tiles[0, index].root) for index in range(len(full))] == full
    assert sum(1 for level, _ in tiles if level == 0) == len(full)
    for (level, index), tile in tiles.items():
        below = expected if level == 0 else full
        assert bytes(tile.data) == b"".join(below[index * 256 : (index + 1) * 256])


@contextmanager
def triggers_down() -> Iterator[None]:
    """As somebody who owns the database may do."""
    triggers.remove(connection)
    try:
        yield
    finally:
        triggers.install(connection)


def execute(statement: str, values: list[Any] | None = None) -> None:
    """Plain SQL, in a transaction of its own."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values or [])


@contextmanager
def elsewhere() -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """Another connection to the same PostgreSQL database."""
    given = connection.get_connection_params()
    wanted = {name: given[name] for name in ("dbname", "user", "password", "host", "port") if given.get(name)}
    with psycopg.connect(**wanted) as other:
        yield other


@pytest.fixture
def memory_folder() -> Path:
    """Where this test's sequencers remember what they signed."""
    return Path(settings.SEQUENCER_DIR)


@pytest.fixture
def make_sequencer(memory_folder: Path) -> Iterator[Callable[..., Sequencer]]:
    """Sequencers that have begun their turn; ended with the test."""
    made: list[Sequencer] = []

    def make(**more: Any) -> Sequencer:
        given = {"seed": settings.LOG_KEY, "vkey": log.vkey(), "folder": memory_folder, **more}
        made.append(Sequencer(**given))
        made[-1].begin()
        return made[-1]

    yield make
    for sequencer in made:
        sequencer.end()


@pytest.fixture(scope="module")
def nursery(django_db_setup: None) -> Iterator[Nursery]:
    """Sequencers in processes of their own, on the tests' database."""
    from tests.conftest import environment_of_children

    with Nursery(environment_of_children()) as ready:
        yield ready
