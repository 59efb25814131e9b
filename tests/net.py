"""A net under every test of these rooms: no row of a watched table changes without an audit entry beside it.

It looks at the statements that reach the database, so bulk updates, many-to-many tables and plain SQL count like
``save()``. What belongs together is one transaction of the program's own: the outermost ``atomic()`` that is not the
test runner's. A statement counts if a function of the program is nearer to it than a function of the tests: what a
test does to prepare its scene is the test's.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from django.db import transaction
from django.db.backends.utils import CursorWrapper
from django.db.transaction import Atomic

from tests.watched import TELEMETRY, TELEMETRY_COLUMNS, TELEMETRY_PLACES

_SELF = Path(__file__)
ROOT = _SELF.resolve().parent.parent
ROOMS = {"audit", "tenants", "provisioning", "breakglass", "portal", "manage.py"}
ENTRIES = "audit_entry"
_CARRIERS = {"audit/models/append_only.py"}
"""Only carry out what their caller writes, as Django's own ``save()`` does."""
_WRITE = re.compile(
    r"\s*(?:(?P<verb>INSERT)\s+(?:OR\s+\w+\s+)?INTO|(?P<update>UPDATE)|(?P<delete>DELETE)\s+FROM)\s+\"?(?P<table>\w+)",
    re.IGNORECASE,
)
_COLUMN = re.compile(r"(?:\bSET |, )\"(\w+)\" = ")


@dataclass(frozen=True)
class Write:
    """One statement that changed a row."""

    verb: str
    table: str
    columns: frozenset[str]
    """Of an UPDATE."""
    place: str
    """``file:function`` of the program that it comes from."""
    line: int = 0

    @property
    def watched(self) -> bool:
        """Whether it needs an entry."""
        free = TELEMETRY_COLUMNS.get(self.table, frozenset())
        telemetry = bool(self.columns) and self.columns <= free
        known = self.table == ENTRIES or self.table in TELEMETRY or self.place in TELEMETRY_PLACES
        return not (known or telemetry)

    def __str__(self) -> str:
        return f"{self.verb} {self.table} {sorted(self.columns)} at {self.place}, line {self.line}"


@dataclass
class Unit:
    """What one block of a transaction has written so far."""

    writes: list[Write] = field(default_factory=list)
    actions: int = 0

    @property
    def changes(self) -> list[Write]:
        """The writes, but for those that an entry makes itself: what its commitments open to."""
        return [write for write in self.writes if write.table != "audit_personaldatum"]

    def absorb(self, inner: "Unit") -> None:
        """Take over what a savepoint kept."""
        self.writes += inner.writes
        self.actions += inner.actions


class Net:
    """Collects violations, as sentences."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.units: list[Unit] = []
        """Every unit that was committed with an entry or a watched write in it."""
        self._open: dict[int, list[Unit]] = {}

    def entered(self, connection: int) -> None:
        """A block of the program's begins."""
        self._open.setdefault(connection, []).append(Unit())

    def left(self, connection: int, kept: bool) -> None:
        """A block ends. Of one that was rolled back nothing is left, its entries neither."""
        stack = self._open.get(connection)
        if not stack:
            return
        unit = stack.pop()
        if not kept:
            return
        if stack:
            stack[-1].absorb(unit)
        else:
            self._judge(unit)

    def wrote(self, connection: int, write: Write) -> None:
        """A statement changed a row."""
        stack = self._open.get(connection)
        if stack:
            stack[-1].writes += [write] if write.watched else []
            stack[-1].actions += write.table == ENTRIES
        elif write.watched:
            self.violations.append(f"outside any transaction: {write}")

    def _judge(self, unit: Unit) -> None:
        if unit.writes and not unit.actions:
            self.violations += [f"no audit entry in the transaction of: {write}" for write in unit.writes]
        if unit.writes or unit.actions:
            self.units.append(unit)


_nets: list[Net] = []


def write_of(sql: object) -> Write | None:
    """The write in a statement; None if it changes no row of the program's, or a test makes it."""
    found = _WRITE.match(sql) if isinstance(sql, str) else None
    if found is None:
        return None
    place, line = _origin()
    if not place:
        return None
    verb = next(word for word in ("verb", "update", "delete") if found[word])
    columns = frozenset(_COLUMN.findall(str(sql))) if verb == "update" else frozenset()
    return Write(found[verb].upper(), found["table"].lower(), columns, place, line)


def _origin() -> tuple[str, int]:
    """The nearest function of the program and its line; empty if one of the tests' or a migration is nearer."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path != _SELF and path.is_relative_to(ROOT):
            parts = path.relative_to(ROOT).parts
            if "/".join(parts) in _CARRIERS:
                frame = frame.f_back
                continue
            if parts[0] == "tests" or "migrations" in parts:  # `migrate` leaves an entry of its own
                return "", 0
            if parts[0] in ROOMS:
                return f"{'/'.join(parts)}:{frame.f_code.co_name}", frame.f_lineno
        frame = frame.f_back
    return "", 0


def _watch(method: Any) -> Any:
    def execute(self: Any, sql: Any, *given: Any, **more: Any) -> Any:
        result = method(self, sql, *given, **more)
        write = write_of(sql) if _nets else None
        if write is not None and (write.verb == "INSERT" or self.cursor.rowcount != 0):
            for net in _nets:
                net.wrote(id(self.db), write)
        return result

    return execute


def _enter(self: Any) -> None:
    _plain_enter(self)
    if not self._from_testcase:
        for net in _nets:
            net.entered(id(transaction.get_connection(self.using)))


def _exit(self: Any, kind: Any, value: Any, traceback: Any) -> None:
    connection = transaction.get_connection(self.using)
    kept = kind is None and not connection.needs_rollback
    try:
        _plain_exit(self, kind, value, traceback)
    except BaseException:
        kept = False
        raise
    finally:
        if not self._from_testcase:
            for net in _nets:
                net.left(id(connection), kept)


_plain_enter, _plain_exit = Atomic.__enter__, Atomic.__exit__


def install() -> None:
    """Stand between Django and its database, once."""
    if Atomic.__enter__ is _plain_enter:
        for name in ("execute", "executemany"):
            setattr(CursorWrapper, name, _watch(getattr(CursorWrapper, name)))
        Atomic.__enter__, Atomic.__exit__ = _enter, _exit  # type: ignore[method-assign]


@contextmanager
def spread() -> Iterator[Net]:
    """A net for a while. Its violations are the caller's to look at."""
    install()
    net = Net()
    _nets.append(net)
    try:
        yield net
    finally:
        _nets.remove(net)


@pytest.fixture(autouse=True)
def net() -> Iterator[Net]:
    """Fails the test in which something changed without its entry. Import it into a room's conftest."""
    with spread() as one:
        yield one
    assert not one.violations, "\n".join(one.violations)
