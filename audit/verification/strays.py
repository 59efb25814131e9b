"""What the leaves do not show: entries without one, tiles high up, archives that nobody made."""

import json
from collections.abc import Iterator
from datetime import timedelta

from django.db import connection
from django.db.models import Max, Q
from django.utils import timezone

from audit.models import Checkpoint, Entry, Leaf, Segment, SequencerFence, Tile
from audit.proofs import unsequenced
from audit.trigger_check import trigger_problems
from audit.verification.chunk import AHEAD
from audit.verification.findings import SHOWN, Findings
from protocol.tiles import TILE_HEIGHT

PATIENCE = timedelta(seconds=60)
"""How long an entry may be without its leaf."""
SMALLEST_ID = -(2**63)
"""The database never gives such a number, so the sequencer does not look there; somebody else could."""


def check_strays(size: int, found: Findings) -> None:
    """All of it. ``size``: leaves there are."""
    _check_entries(found)
    _check_upper_tiles(size, found)
    _check_segments(found)
    head = Checkpoint.objects.aggregate(size=Max("size"))["size"] or 0
    if head < size:
        found.add("checkpoint_missing", f"{size} leaves, and the newest checkpoint is of {head}")
    for problem in trigger_problems(connection):
        found.add("trigger_missing", problem)


def _check_entries(found: Findings) -> None:
    newest = Leaf.objects.aggregate(entry=Max("entry_id"))["entry"] or 0
    now = timezone.now()
    low = SequencerFence.objects.filter(pk=SequencerFence.ROW).values_list("low", flat=True).first() or 0
    # Those that the sequencer has passed, or never looks at, wait for nothing, whatever their date.
    late = Q(at__lt=now - PATIENCE) | Q(at__gt=now + AHEAD) | Q(pk__lte=max(0, low))
    waiting = unsequenced(SMALLEST_ID).filter(late).order_by("pk")
    for name, rows in (
        ("entry_foreign", waiting.filter(pk__lte=max(newest, low))),
        ("unsequenced", waiting.filter(pk__gt=max(newest, low))),
    ):
        for pk in rows.values_list("pk", flat=True).iterator():
            found.add(name, f"entry {pk}")


def _check_upper_tiles(size: int, found: Findings) -> None:
    """From level 2 on, each from the roots below, which the chunks have checked; and none beyond the tree."""
    for level, index, data in Tile.objects.filter(level__gte=2).values_list("level", "index", "data"):
        below = Tile.objects.filter(level=level - 1, index__gte=index << TILE_HEIGHT).order_by("index")
        if bytes(data) != b"".join(map(bytes, below.values_list("root", flat=True)[: 1 << TILE_HEIGHT])):
            found.add("tile_wrong", f"tile {level}/{index}")
    for level, expected in _full_tiles(size):
        have = Tile.objects.filter(level=level)
        for index in have.filter(index__gte=expected).values_list("index", flat=True)[:SHOWN]:
            found.add("tile_wrong", f"tile {level}/{index} stands beyond the tree")
        if level >= 2 and have.count() < expected:
            found.add("tile_wrong", f"of {expected} full tiles of level {level} some are missing")


def _full_tiles(size: int) -> Iterator[tuple[int, int]]:
    highest = Tile.objects.aggregate(level=Max("level"))["level"]
    level = 0
    while size >> (TILE_HEIGHT * (level + 1)) or level <= (-1 if highest is None else highest):
        yield level, size >> (TILE_HEIGHT * (level + 1))
        level += 1


def _check_segments(found: Findings) -> None:
    for segment in Segment.objects.all():
        told = Entry.objects.filter(
            action="record.archived", target_type="segment", target_id=str(segment.pk)
        ).values_list("event", flat=True)
        wanted = (segment.first, segment.end, segment.digest)
        if not any(wanted == _archived(event) for event in told if event):
            found.add("segment_foreign", str(segment))


def _archived(event: str) -> tuple[object, ...]:
    try:
        data = json.loads(event)["data"]
        return data["first"], data["end"], data["digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
