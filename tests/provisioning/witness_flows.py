"""A portal with a log whose history can be rewritten, and the rounds of its witnesses, for tests."""

import json
import shutil
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from audit import log, proofs, triggers
from audit.context import command
from audit.models import (
    Checkpoint,
    Cosignature,
    Entry,
    Leaf,
    SequencerFence,
    Tile,
    Witness,
    WitnessRefusal,
)
from audit.sequencer import sequence_once
from audit.services import record
from protocol.checkpoints import Checkpoint as Head
from protocol.checkpoints import signed
from protocol.merkle import root
from provisioning import witnessing
from provisioning.models import Runtime

TESTER = command("test")


def write(count: int = 3, action: str = "thing.done") -> None:
    """Some entries, committed."""
    with transaction.atomic():
        for number in range(count):
            record(action=action, actor=TESTER, target=("thing", number))


def head() -> Checkpoint:
    newest = proofs.latest()
    assert newest is not None
    return newest


def noted(action: str) -> list[Any]:
    rows = Entry.objects.filter(action=action).order_by("pk")
    return [json.loads(row.event)["data"] for row in rows]


def again(witness: Witness | None = None) -> None:
    """As if a round's time had gone by."""
    found = Witness.objects.filter(pk=witness.pk) if witness else Witness.objects.all()
    found.update(asked_at=timezone.now() - timedelta(seconds=10 * settings.WITNESS_SECONDS))


def ask(runtime: Runtime) -> None:
    """What is committed gets its leaves, and the guest is asked."""
    sequence_once()
    again()
    witnessing.ask_guest(runtime.pk)


def set_back(size: int) -> None:
    """What the database's superuser can do: a history of ``size`` leaves, as in an older backup.

    The sequencer's memory beside the database is gone too: whoever restores the machine restores both.
    """
    kept = list(Leaf.objects.filter(index__lt=size).values_list("entry_id", flat=True))
    rows: list[tuple[type[Any], dict[str, Any]]] = [
        (WitnessRefusal, {"checkpoint__size__gt": size}),
        (Cosignature, {"checkpoint__size__gt": size}),
        (Checkpoint, {"size__gt": size}),
        (Tile, {"level__gte": 0}),
        (Leaf, {"index__gte": size}),
    ]
    assert size < 256, "tiles are not made anew here"
    triggers.remove(connection)
    try:
        for model, where in rows:
            _raw(model).filter(**where)._raw_delete(using="default")
        _raw(Entry).exclude(pk__in=kept)._raw_delete(using="default")
        _sign(size)
    finally:
        triggers.install(connection)
    SequencerFence.objects.update(low=0)
    shutil.rmtree(settings.SEQUENCER_DIR, ignore_errors=True)


def _sign(size: int) -> None:
    """A head of the tree that is left, by the log's own key."""
    if Checkpoint.objects.filter(size=size).exists():
        return
    top = root([bytes(leaf) for leaf in Leaf.objects.order_by("index").values_list("hash", flat=True)])
    origin = log.vkey().name
    note = signed(Head(origin, size, top), settings.LOG_KEY, origin)
    Checkpoint.objects.create(size=size, root=top, note=note, at=timezone.now())


def _raw(model: type[Any]) -> Any:
    """Without the methods that refuse."""
    return QuerySet(model)
