"""Retention: old entries' bodies go into archives that prove themselves; their hashes, and all proofs, stay.

An archive is a folder of C2SP tiles and bundles with a signed checkpoint (``python -m protocol.verify tiles``
reads it without us) and ``SHA256SUMS`` over its files. A body leaves the database only after its archive was
read back and verified, and after the row that names the archive is committed; the triggers see to the latter.
"""

import hashlib
import os
from datetime import datetime
from pathlib import Path

from django.db import connection, transaction
from django.utils import timezone

from audit import log, proofs
from audit.context import Actor
from audit.models import Checkpoint, Leaf, Segment
from audit.services import record
from audit.tree_files import export_segment, settle
from protocol.tiles import TILE_WIDTH
from protocol.verify.folders import verify_folder
from protocol.verify.outcome import Keys

SUMS = "SHA256SUMS"
EMPTIED_AT_ONCE = 2_560
"""Bodies that one transaction removes."""


class NothingToArchiveError(Exception):
    """The message says why."""


def archive(*, actor: Actor, before: datetime, folder: Path) -> Segment:
    """Archive the entries whose whole tiles lie before a moment, then remove their bodies.

    Killed in the middle, it leaves at most a folder without a row, or bodies that :func:`finish` removes.

    Args:
        folder: where the archive's own folder is made.

    Raises:
        NothingToArchiveError: fewer than 256 entries are so old.
        VerificationError: the archive does not verify, so nothing was removed.
        OSError: the folder cannot be written.
    """
    checkpoint = proofs.latest()
    first = Segment.archived()
    end = _end(checkpoint, first, before)
    if checkpoint is None or end <= first:
        raise NothingToArchiveError(f"No {TILE_WIDTH} entries in a row are older and not archived yet.")
    made = folder / f"entries-{first}-{end - 1}"
    export_segment(made, checkpoint, first, end)
    digest = _sums(made)
    settle(made)
    verify_folder(made, Keys(log.vkey()), first, end)
    segment = _remember(actor, Segment(first=first, end=end, folder=made.name, digest=digest), checkpoint)
    finish(segment)
    return segment


def finish(segment: Segment) -> int:
    """Remove the bodies of an archive's entries that are still here. Returns how many there were."""
    removed = 0
    for begin in range(segment.first, segment.end, EMPTIED_AT_ONCE):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "UPDATE audit_entry SET event = '' WHERE event <> '' AND id IN "
                '(SELECT entry_id FROM audit_leaf WHERE "index" >= %s AND "index" < %s)',
                [begin, min(begin + EMPTIED_AT_ONCE, segment.end)],
            )
            removed += cursor.rowcount
    return removed


def unfinished() -> list[Segment]:
    """Archives some of whose bodies are still here, as after a kill."""
    return [one for one in Segment.objects.all() if _bodies(one)]


def _bodies(segment: Segment) -> bool:
    held = Leaf.objects.filter(index__gte=segment.first, index__lt=segment.end)
    return held.exclude(entry__event="").exists()


def _end(checkpoint: Checkpoint | None, first: int, before: datetime) -> int:
    """Up to the first leaf that is not so old; later ones that are older stay with their neighbours."""
    if checkpoint is None:
        return 0
    rows = Leaf.objects.filter(index__gte=first, index__lt=checkpoint.size, entry__at__gte=before)
    young = rows.order_by("index").values_list("index", flat=True).first()
    return (checkpoint.size if young is None else young) // TILE_WIDTH * TILE_WIDTH


@transaction.atomic
def _remember(actor: Actor, segment: Segment, checkpoint: Checkpoint) -> Segment:
    segment.checkpoint, segment.at = checkpoint.size, timezone.now()
    segment.full_clean()
    segment.save()
    record(
        action="record.archived",
        actor=actor,
        target=("segment", segment.pk),
        data={"first": segment.first, "end": segment.end, "digest": segment.digest, "size": checkpoint.size},
    )
    return segment


def _sums(folder: Path) -> str:
    """Write the list of files, as sha256sum does. Returns its own digest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files
    ]
    data = "".join(lines).encode()
    with (folder / SUMS).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()
