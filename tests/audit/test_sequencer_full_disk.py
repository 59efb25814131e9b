"""A full disk, under the database or under what the sequencer remembers: nothing half-done, nothing forgotten."""

import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection

from audit import proofs
from audit.models import Checkpoint, Leaf
from audit.sequencer import sequence_once
from tests.audit.conftest import assert_sound, write
from tests.audit.nursery import FAILED, Nursery
from tests.conftest import environment_of_children

pytestmark = pytest.mark.django_db(transaction=True)
MIB = 1024 * 1024


def run(*argv: object) -> None:
    subprocess.run([str(word) for word in argv], check=True, timeout=20)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of some megabytes. Not below pytest's own folder, where PostgreSQL's user may not go."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    run("mount", "-t", "tmpfs", "-o", f"size={16 * MIB},mode=0755", "tmpfs", folder)
    folder.chmod(0o755)
    yield folder
    run("umount", "--lazy", folder)
    folder.rmdir()


def resize(disk: Path, size: int) -> None:
    run("mount", "-o", f"remount,size={size}", disk)


def fill(disk: Path) -> Path:
    """Nothing more fits on this disk until the file that this answers is removed."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as sink:
        try:
            while True:
                sink.write(b"\0" * 4096)
        except OSError:
            return ballast


def test_what_cannot_be_remembered_stops_the_signing(small_disk: Path) -> None:
    """One head was signed and could not be remembered: there is no second one until it is."""
    folder = small_disk / "sequencer"
    write(2)
    sequence_once(folder=folder)
    ballast = fill(small_disk)
    for _ in range(3):
        write(2)
        with pytest.raises(OSError, match="No space"):
            sequence_once(folder=folder)
        assert_sound()
    assert list(Checkpoint.objects.order_by("size").values_list("size", flat=True)) == [2, 4]
    ballast.unlink()
    assert sequence_once(folder=folder) == 4
    assert_sound()


def test_a_full_disk_under_the_database(small_disk: Path, nursery: Nursery, memory_folder: Path) -> None:
    """The pass is rolled back as one; with room again, the next one does the work."""
    write(600)
    sequence_once(batch=300)
    write(3000)
    _FULL_DISK[connection.vendor](small_disk, nursery, memory_folder)
    assert_sound()
    sequence_once()
    assert_sound()
    assert Leaf.objects.count() == 3600


def _on_postgresql(disk: Path, nursery: Nursery, memory_folder: Path) -> None:
    """The leaves' table lies on the small disk."""
    home = disk / "tablespace"
    home.mkdir()
    shutil.chown(home, "postgres", "postgres")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLESPACE small LOCATION '{home}'")
        cursor.execute("ALTER TABLE audit_leaf SET TABLESPACE small")
    ballast = fill(disk)
    try:
        assert nursery.sequence(memory_folder) == FAILED
        assert Leaf.objects.count() == 600
    finally:
        ballast.unlink()
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE audit_leaf SET TABLESPACE pg_default")
            cursor.execute("DROP TABLESPACE small")


def _on_sqlite(disk: Path, nursery: Nursery, memory_folder: Path) -> None:
    """A copy of the whole database lies there; in the end it has the tree that the original gets."""
    copy, own = disk / "copy.sqlite3", memory_folder.with_name("other")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM INTO %s", [str(copy)])
    own.mkdir()
    shutil.copy(memory_folder / "signed.json", own)
    resize(disk, copy.stat().st_size + 128 * 1024)
    with Nursery({**environment_of_children(), "DATABASE_URL": f"sqlite:///{copy}"}) as there:
        assert there.sequence(own) == FAILED
        assert _head(copy)[0] == 600
        resize(disk, 16 * MIB)
        assert there.sequence(own) == 0
    sequence_once()
    newest = proofs.latest()
    assert newest is not None
    assert _head(copy) == (3600, bytes(newest.root))


def _head(database: Path) -> tuple[int, bytes]:
    with sqlite3.connect(database) as other:
        query = "SELECT size, root FROM audit_checkpoint ORDER BY size DESC LIMIT 1"
        found: tuple[int, bytes] = other.execute(query).fetchone()
        return found


_FULL_DISK: dict[str, Callable[[Path, Nursery, Path], None]] = {
    "postgresql": _on_postgresql,
    "sqlite": _on_sqlite,
}
