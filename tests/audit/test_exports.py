"""What leaves the record is checked by the stand-alone verifier in a process of its own, without Django."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit import archives, log, proofs
from audit.bodies import ArchivedError, entry_bundle, events
from audit.context import command
from audit.exporting import receipts, whole
from audit.models import Entry, Leaf, Segment
from audit.search import Filters, search
from audit.services import record
from protocol.receipts import check
from protocol.tiles import TileError, unbundle
from protocol.verify.outcome import VerificationError

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
Sequence = Callable[[], int]


def fill(count: int, sequence: Sequence) -> list[Entry]:
    with transaction.atomic():
        made = [
            record(action="thing.done", actor=TESTER, target=("thing", n), data={"n": n})
            for n in range(count)
        ]
    sequence()
    return made


def verified(*arguments: object) -> str:
    """What ``python -m protocol.verify`` says; the test fails if it says no."""
    return _verify(*arguments, ends=0).stdout


def refused(*arguments: object) -> str:
    return _verify(*arguments, ends=1).stderr


def _verify(*arguments: object, ends: int) -> "subprocess.CompletedProcess[str]":
    words = [str(argument) for argument in arguments]
    made = subprocess.run(
        [sys.executable, "-m", "protocol.verify", *words, "--key", settings.LOG_VKEY],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=settings.BASE_DIR,
        env={},
    )
    assert made.returncode == ends, made.stderr
    return made


def write(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(lines))
    return path


def test_a_whole_export_verifies_and_a_changed_one_does_not(sequence: Sequence, tmp_path: Path) -> None:
    """Header, every entry, checkpoint; one changed letter in one event is found."""
    fill(600, sequence)
    head = proofs.latest()
    assert head is not None
    path = write(tmp_path / "log.jsonl", whole(head, log.vkey().name))
    assert "600" in verified("export", path)
    path.write_text(path.read_text().replace('\\"n\\":333', '\\"n\\":334'))
    refused("export", path)


def test_an_export_ends_where_its_checkpoint_ends(sequence: Sequence, tmp_path: Path) -> None:
    """What has come since is not in it."""
    fill(10, sequence)
    head = proofs.latest()
    fill(10, sequence)
    assert head is not None
    path = write(tmp_path / "log.jsonl", whole(head, log.vkey().name))
    assert len(path.read_text().splitlines()) == 12
    verified("export", path)


def test_a_filtered_export_is_receipts_that_verify(sequence: Sequence, tmp_path: Path) -> None:
    """Only what was searched for, over several pages, each with its own proof under one checkpoint."""
    fill(700, sequence)
    with transaction.atomic():
        record(action="other.done", actor=TESTER)
    sequence()
    head = proofs.latest()
    assert head is not None
    path = write(tmp_path / "some.jsonl", receipts(Filters(action="thing.done"), head))
    lines = path.read_text().splitlines()
    numbers = [json.loads(json.loads(line)["event"])["data"]["n"] for line in lines]
    assert numbers == list(reversed(range(700)))
    verified("export", path)


def test_a_filtered_export_has_its_limit(sequence: Sequence, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more receipts than one download may hold."""
    fill(20, sequence)
    monkeypatch.setattr("audit.exporting.MAX_RECEIPTS", 7)
    head = proofs.latest()
    assert head is not None
    assert len(list(receipts(Filters(), head))) == 7


def test_tiles_are_exported_and_exported_again(sequence: Sequence, tmp_path: Path) -> None:
    """The folder verifies; the second time only what is new is written; the export is on record."""
    fill(600, sequence)
    call_command("audit_export_tiles", tmp_path)
    assert "600" in verified("tiles", tmp_path)
    assert Entry.objects.latest("pk").action == "record.exported"
    full = tmp_path / "tile/entries/000"
    before = full.stat().st_mtime_ns
    fill(300, sequence)
    call_command("audit_export_tiles", tmp_path)
    assert full.stat().st_mtime_ns == before
    assert "901" in verified("tiles", tmp_path)
    full.write_bytes(full.read_bytes().replace(b'"n":7', b'"n":8', 1))
    assert "is not the one in the tree" in refused("tiles", tmp_path)


def test_tiles_need_a_checkpoint(tmp_path: Path) -> None:
    """Before the first there is nothing to export, and that is said."""
    with pytest.raises(CommandError, match="Start the sequencer"):
        call_command("audit_export_tiles", tmp_path)


def test_bundles_hold_the_stored_bytes(sequence: Sequence) -> None:
    """In the order of the tree; what the tree has not is refused."""
    made = fill(300, sequence)
    assert unbundle(entry_bundle(1, 44)) == [entry.event.encode() for entry in made[256:]]
    with pytest.raises(TileError, match="no entry 300"):
        entry_bundle(1, 45)


def test_an_archive_proves_itself_and_the_rest_goes_on(sequence: Sequence, tmp_path: Path) -> None:
    """Bodies leave, hashes stay: old proofs, new proofs, the export of the rest and the search all work."""
    made = fill(1000, sequence)
    call_command("audit_archive", before=timezone.now() + timedelta(days=1), to=tmp_path)
    segment = Segment.objects.get()
    assert (segment.first, segment.end) == (0, 768)
    assert Entry.objects.filter(event="").count() == 768
    assert "768" in verified("tiles", tmp_path / segment.folder, "--first", 0, "--end", 768)
    sums = subprocess.run(
        ["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / segment.folder, check=False, timeout=60
    )
    assert sums.returncode == 0
    sequence()
    head = proofs.latest()
    assert head is not None
    assert head.size == 1001  # with the entry of the archive
    assert '"action":"record.archived"' in Entry.objects.latest("pk").event
    kept = proofs.receipt(Entry.objects.get(pk=made[900].pk))
    assert kept is not None
    assert check(kept, log.vkey()).index == 900
    assert proofs.receipt(Entry.objects.get(pk=made[5].pk)) is None
    assert "233" in verified("export", write(tmp_path / "rest.jsonl", whole(head, log.vkey().name)))
    assert len(search(Filters(target_id="5")).entries) == 1
    with pytest.raises(ArchivedError, match="entry 0 has been archived"):
        next(events(0, 1))
    assert len(list(receipts(Filters(action="thing.done"), head))) == 232


def test_archives_follow_one_another(sequence: Sequence, tmp_path: Path) -> None:
    """The next begins where the last ended, in whole tiles; nothing old enough is said, and changes nothing."""
    fill(300, sequence)
    later = timezone.now() + timedelta(days=1)
    call_command("audit_archive", before=later, to=tmp_path)
    fill(300, sequence)
    call_command("audit_archive", before=later, to=tmp_path)
    assert list(Segment.objects.values_list("first", "end")) == [(0, 256), (256, 512)]
    count = Entry.objects.count()
    call_command("audit_archive", before=later, to=tmp_path)
    assert Entry.objects.count() == count
    for segment in Segment.objects.all():
        verified("tiles", tmp_path / segment.folder, "--first", segment.first, "--end", segment.end)


def test_only_what_is_older_is_archived(sequence: Sequence, tmp_path: Path) -> None:
    """Up to the first leaf that is younger, rounded down to whole tiles."""
    fill(300, sequence)
    moment = timezone.now()
    fill(600, sequence)
    segment = archives.archive(actor=TESTER, before=moment, folder=tmp_path)
    assert segment.end == 256


def test_an_archive_that_does_not_verify_removes_nothing(
    sequence: Sequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that reached the disk otherwise than it stands in the tree: no row, no entry, all bodies here."""
    fill(300, sequence)
    real = archives._sums

    def spoilt(folder: Path) -> str:
        path = folder / "tile/entries/000"
        path.write_bytes(path.read_bytes().replace(b'"n":7', b'"n":8', 1))
        return real(folder)

    monkeypatch.setattr(archives, "_sums", spoilt)
    with pytest.raises(VerificationError, match="entry 7 is not the one"):
        archives.archive(actor=TESTER, before=timezone.now(), folder=tmp_path)
    assert not Segment.objects.exists()
    assert not Entry.objects.filter(event="").exists()
    assert not Entry.objects.filter(action="record.archived").exists()


def test_an_archive_of_changed_entries_is_refused(sequence: Sequence, tmp_path: Path) -> None:
    """What somebody altered in the database is not archived as if it were the record."""
    from audit import triggers

    made = fill(300, sequence)
    triggers.remove(connection, "audit_entry")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_entry SET event = replace(event, 'thing', 'thinG') WHERE id = %s", [made[3].pk]
        )
    triggers.install(connection, "audit_entry")
    with pytest.raises(VerificationError, match="entry 3 is not the one"):
        archives.archive(actor=TESTER, before=timezone.now(), folder=tmp_path)


def test_no_body_goes_before_the_archive_is_on_the_disk(
    sequence: Sequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names too: a file whose folder is not synced can be gone after a loss of power."""
    fill(300, sequence)
    synced: set[Path] = set()
    real, finish = os.fsync, archives.finish

    def fsync(handle: int) -> None:
        synced.add(Path(f"/proc/self/fd/{handle}").readlink())
        real(handle)

    def checked(segment: Segment) -> int:
        made = tmp_path / "new" / segment.folder
        wanted = {tmp_path, tmp_path / "new", made, *(one for one in made.rglob("*") if one.is_dir())}
        assert wanted <= synced
        return finish(segment)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(archives, "finish", checked)
    archives.archive(actor=TESTER, before=timezone.now(), folder=tmp_path / "new")
    assert Entry.objects.filter(event="").count() == 256


def test_a_killed_removal_is_finished_by_the_next_run(
    sequence: Sequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is there, the bodies still are: the command removes them before anything else."""
    fill(300, sequence)
    with monkeypatch.context() as patched:
        patched.setattr(archives, "finish", lambda segment: 0)
        archives.archive(actor=TESTER, before=timezone.now(), folder=tmp_path)
    assert not Entry.objects.filter(event="").exists()
    call_command("audit_archive", before=timezone.now() - timedelta(days=1), to=tmp_path)
    assert Entry.objects.filter(event="").count() == 256
    assert archives.unfinished() == []


@pytest.mark.parametrize(
    "change",
    [
        "event = 'other'",
        "event = '', action = 'other'",
        "event = '', tenant_id = NULL",
        "at = '2020-01-01'",
        "event = ''",
    ],
)
def test_the_database_empties_archived_bodies_only(sequence: Sequence, tmp_path: Path, change: str) -> None:
    """Within an archive only the body alone, and only to nothing; beyond it nothing at all."""
    with transaction.atomic():
        record(action="thing.done", actor=TESTER, tenant_id=uuid.UUID(int=5))
    made = fill(300, sequence)
    Segment.objects.create(first=0, end=256, checkpoint=301, folder="x", digest="0" * 64, at=timezone.now())
    inside, outside = Leaf.objects.get(index=0).entry_id, made[-1].pk
    assert refuses(f"UPDATE audit_entry SET {change} WHERE id = {outside}")
    assert refuses(f"UPDATE audit_entry SET {change} WHERE id = {inside}") == (change != "event = ''")
    for table in ("audit_segment", "audit_entry"):
        assert refuses(f"DELETE FROM {table}")


def refuses(statement: str) -> bool:
    """Whether the database's triggers say no."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    except DatabaseError as error:
        return "append-only" in str(error)
    return False


def test_a_folder_that_is_not_there_is_named(sequence: Sequence, tmp_path: Path) -> None:
    """The error says what to change."""
    fill(300, sequence)
    with pytest.raises(CommandError, match="--to: give a folder"):
        call_command("audit_archive", before=timezone.now(), to=tmp_path / "nowhere")
