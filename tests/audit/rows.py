"""One row for each insert-only table, made as the portal makes it."""

from collections.abc import Callable

from django.db import transaction
from django.utils import timezone

from audit.context import command
from audit.models import Checkpoint, Entry, Leaf, Tile
from audit.services import record


def _entry() -> Entry:
    with transaction.atomic():
        return record(action="thing.done", actor=command("test"), target=("thing", 1))


def _leaf() -> Leaf:
    return Leaf.objects.create(index=Leaf.objects.count(), entry=_entry(), hash=bytes(32))


def _tile() -> Tile:
    return Tile.objects.create(level=0, index=Tile.objects.count(), data=bytes(8192))


def _checkpoint() -> Checkpoint:
    size = Checkpoint.objects.count() + 1
    return Checkpoint.objects.create(size=size, root=bytes(32), note="", at=timezone.now())


ROWS: dict[str, Callable[[], object]] = {
    "audit_entry": _entry,
    "audit_leaf": _leaf,
    "audit_tile": _tile,
    "audit_checkpoint": _checkpoint,
}


def row_of(table: str) -> None:
    """Add one."""
    ROWS[table]()
