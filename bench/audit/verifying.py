"""Entries per second that each verifier goes through: in the database, in an export, in a folder of tiles."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path

from django.core.management import CommandError, call_command, get_commands

from audit import log, proofs
from audit.models import Checkpoint, Leaf
from bench.audit.reading import newest
from protocol.checkpoints import opened
from protocol.tiles import TILE_WIDTH, bundle, entries_path, tile_path, tile_width
from protocol.verify.exports import checkpoint_line, entry_line, header_line

ROOM = Path(__file__).parents[2]


def measure() -> dict[str, float]:
    """Entries per second. Raises SystemExit: something does not verify."""
    head = newest()
    found = {"entries": float(head.size)}
    if "audit_verify" in get_commands():
        found["database"] = head.size / _seconds(_verify_database)
    with tempfile.TemporaryDirectory(prefix="bench-audit-") as folder:
        paths = {"export": Path(folder) / "export.jsonl", "tiles": Path(folder) / "tiles"}
        _write(head, paths["export"], paths["tiles"])
        for name, path in paths.items():
            found[name] = head.size / _seconds(lambda: _verify(name, path))  # noqa: B023 - called at once
    return {name: round(value) for name, value in found.items()}


def _verify(name: str, path: Path) -> None:
    command = [sys.executable, "-m", "protocol.verify", name, str(path), "--key", str(log.vkey())]
    done = subprocess.run(command, cwd=ROOM, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def _write(head: Checkpoint, export: Path, tiles: Path) -> None:
    """Both kinds of export of the whole log."""
    _put(tiles, "checkpoint", head.note.encode())
    with export.open("w") as file:
        file.write(header_line(opened(head.note, log.vkey())))
        pack: list[bytes] = []
        for index, event in enumerate(_events(head.size)):
            file.write(entry_line(index, event))
            pack.append(event.encode())
            if len(pack) == TILE_WIDTH or index + 1 == head.size:
                _put(tiles, entries_path(index // TILE_WIDTH, len(pack)), bundle(pack))
                pack = []
        file.write(checkpoint_line(head.note))
    level = 0
    while hashes := head.size >> (8 * level):
        for index in range(-(-hashes // TILE_WIDTH)):
            width = tile_width(level, index, head.size)
            _put(tiles, tile_path(level, index, width), proofs.read_tile(level, index, width))
        level += 1


def _events(size: int) -> Iterator[str]:
    rows = Leaf.objects.filter(index__lt=size).order_by("index").values_list("entry__event", flat=True)
    return iter(rows.iterator(chunk_size=5000))


def _put(folder: Path, name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def _verify_database() -> None:
    """Seeded entries are dated by hand, which the verifier says; it reads all of them nevertheless."""
    with suppress(CommandError):
        call_command("audit_verify", stdout=StringIO())


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
