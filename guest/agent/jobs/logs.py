"""Logs, piece by piece: of a file that somebody else writes, or has not begun, or has removed."""

import base64
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIECE = 256 * 1024


@dataclass(frozen=True)
class Piece:
    """What a log held from ``offset`` on, at one moment."""

    offset: int
    data: bytes
    size: int
    """Of the whole log then."""

    def told(self, *, over: bool, cut: bool) -> dict[str, Any]:
        """``over``: the log grows no more. ``cut``: some of the output was dropped."""
        after = self.offset + len(self.data)
        return {
            "offset": self.offset,
            "next": after,
            "size": self.size,
            "end": over and after >= self.size,
            "cut": cut,
            "data": base64.b64encode(self.data).decode(),
        }


def size_of(path: Path) -> int:
    """In bytes; 0 if there is none."""
    try:
        return path.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def read_start(path: Path, most: int) -> tuple[bytes, int]:
    """The first ``most`` bytes of a log that grows no more, and its size."""
    found = b""
    while len(found) < most:
        piece = read_piece(path, len(found))
        if not piece.data:
            break
        found += piece.data
    return found[:most], size_of(path)


def read_piece(path: Path, offset: int) -> Piece:
    """At most `PIECE` bytes. Behind the end, or without a log, there are none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return Piece(offset, b"", 0)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return Piece(offset, b"", 0)
        # Not behind the size: what is written in between belongs to the next piece.
        count = max(0, min(PIECE, facts.st_size - offset))
        return Piece(offset, os.pread(descriptor, count, offset) if count else b"", facts.st_size)
    finally:
        os.close(descriptor)
