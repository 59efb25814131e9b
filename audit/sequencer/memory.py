"""What the sequencer has signed last, kept outside the database: a database that was set back is noticed.

One small file. It is written after the commit, beside its old self, synced and renamed, so that a killed
process leaves the old one or the new one.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from audit.faults import around
from protocol.merkle import HASH_BYTES

FILE = "signed.json"
MAX_BYTES = 4096


class MemoryUnreadableError(Exception):
    """The file is there and does not say what was signed. Nobody but a person may decide what to do."""


@dataclass(frozen=True)
class Signed:
    """The newest checkpoint that the sequencer knows to be signed."""

    origin: str
    size: int
    root: bytes


def read(folder: Path) -> Signed | None:
    """What stands there; None if nothing was ever signed on this machine.

    Raises:
        MemoryUnreadableError: something else stands there.
    """
    try:
        raw = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MemoryUnreadableError(f"cannot read {FILE}: {error.strerror}") from None
    try:
        told = json.loads(raw[:MAX_BYTES])
        signed = Signed(str(told["origin"]), int(told["size"]), bytes.fromhex(told["root"]))
    except (ValueError, KeyError, TypeError):
        raise MemoryUnreadableError(f"{FILE} is no record of a signed checkpoint") from None
    if signed.size < 1 or len(signed.root) != HASH_BYTES:
        raise MemoryUnreadableError(f"{FILE} is no record of a signed checkpoint")
    return signed


def write(folder: Path, signed: Signed) -> None:
    """Put this in the old one's place, durably. Raises OSError: disk full, no right to write."""
    text = json.dumps({"origin": signed.origin, "size": signed.size, "root": signed.root.hex()}) + "\n"
    fresh = folder / f"{FILE}.new"
    with around("sequencer.memory_write"):
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as sink:
            sink.write(text)
            sink.flush()
            os.fsync(sink.fileno())
    with around("sequencer.memory_rename"):
        fresh.replace(folder / FILE)
        _sync(folder)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
