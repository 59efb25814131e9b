"""A log of any size, made in bulk: entries, leaves, tiles, a signed checkpoint, and the search index.

What it writes is what the portal would have written, so it verifies; only the ways there are shorter.
"""

import json
import multiprocessing
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, connections, transaction
from django.utils import timezone

from audit import index as search_index
from audit import log, triggers
from audit.models import Checkpoint, Entry, Leaf, SearchIndex, SequencerFence
from audit.sequencer import sequence_once, tree
from protocol import checkpoints
from protocol.merkle import leaf_hash

PART = 20_000
TENANTS = [UUID(int=n) for n in range(1, 41)]
ACTIONS = [
    f"{thing}.{verb}" for thing in ("runtime", "secret", "job", "member") for verb in ("asked", "done")
]
RARE_ACTION = "tenant.closed"
WORDS = ["backup", "nightly", "restart", "quota", "network", "import", "export", "review"]
RARE_WORD = "zanzibar"
PEOPLE = 200
BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
_COLUMNS = "id, at, action, actor_kind, actor_id, tenant_id, target_type, target_id, request_id, event"


def grow_to(size: int) -> None:
    """Make the log so large; it may have entries already."""
    sequence_once()
    last = Leaf.objects.order_by("-index").first()
    have = last.index + 1 if last else 0
    rows = _rows(have, size)
    growth = tree.load(log.vkey())
    triggers.remove(connection, "audit_entry")  # it takes entries of now only
    for first in range(have, size, PART):
        batch = [next(rows) for _ in range(min(PART, size - first))]
        with transaction.atomic():
            ids = _copy_entries(batch)
            hashes = [leaf_hash(row[-1].encode()) for row in batch]
            tiles = growth.extend(hashes)
            _copy("audit_leaf (index, entry_id, hash)", zip(range(first, size), ids, hashes, strict=False))
            _copy(
                "audit_tile (level, index, data, root)",
                [(one.level, one.index, one.data, one.root) for one in tiles],
            )
    triggers.install(connection, "audit_entry")
    if have < size:
        root = growth.root()
        head = checkpoints.Checkpoint(log.vkey().name, size, root)
        note = checkpoints.signed(head, settings.LOG_KEY, head.origin)
        Checkpoint.objects.create(size=size, root=root, note=note, at=timezone.now())
        top = Entry.objects.order_by("-pk").values_list("pk", flat=True)[0]
        SequencerFence.objects.filter(pk=SequencerFence.ROW).update(low=top)
    _index_all(size)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _rows(first: int, size: int) -> Iterator[tuple[Any, ...]]:
    random = Random(first)  # noqa: S311 - made-up data
    step = timedelta(days=600) / max(1, size)
    for n in range(first, size):
        at = BEGINNING + n * step
        tenant = random.choice(TENANTS)
        actor = str(random.randrange(PEOPLE))
        action = RARE_ACTION if n % 50_021 == 17 else random.choice(ACTIONS)
        target, request = str(UUID(int=random.getrandbits(128))), f"{random.getrandbits(128):032x}"
        words = [random.choice(WORDS), *([RARE_WORD] if n % 33_331 == 11 else [])]
        event = {
            "version": 2,
            "at": at.isoformat(timespec="microseconds"),
            "action": action,
            "actor": {"kind": "user", "id": actor},
            "cause": None,
            "tenant": str(tenant),
            "target": {"type": "runtime", "id": target},
            "request": request,
            "session": f"{random.getrandbits(64):016x}",
            "task": "",
            "data": {"number": n, "words": words},
            "personal": {"address": f"{random.getrandbits(256):064x}"},
        }
        text = json.dumps(event, sort_keys=True, separators=(",", ":"))
        yield at, action, "user", actor, tenant, "runtime", target, request, text


def _copy_entries(batch: list[tuple[Any, ...]]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence('audit_entry', 'id')) FROM generate_series(1, %s)",
            [len(batch)],
        )
        ids = [row[0] for row in cursor.fetchall()]
    _copy(f"audit_entry ({_COLUMNS})", [(pk, *row) for pk, row in zip(ids, batch, strict=True)])
    return ids


def _copy(into: str, rows: Any) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _index_all(size: int) -> None:
    """All leaves' words, by a process for each half; the index over them is made anew at the end."""
    begin = _index_progress()
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX audit_words_found")
    connections.close_all()
    middle = begin + (size - begin) // 2
    fork = multiprocessing.get_context("fork")
    halves = [
        fork.Process(target=_index_range, args=(begin, middle)),
        fork.Process(target=_index_range, args=(middle, size)),
    ]
    for process in halves:
        process.start()
    for process in halves:
        process.join()
    if any(process.exitcode for process in halves):
        raise SystemExit("The search index could not be filled.")
    SearchIndex.objects.filter(pk=SearchIndex.ROW).update(leaves=size)
    with connection.cursor() as cursor:
        cursor.execute(search_index.CREATE["postgresql"][1])


def _index_progress() -> int:
    row, _ = SearchIndex.objects.get_or_create(pk=SearchIndex.ROW)
    return row.leaves


def _index_range(first: int, end: int) -> None:
    for at in range(first, end, PART):
        leaves = Leaf.objects.filter(index__gte=at, index__lt=min(at + PART, end)).select_related("entry")
        with transaction.atomic():
            search_index.add([leaf.entry for leaf in leaves])
