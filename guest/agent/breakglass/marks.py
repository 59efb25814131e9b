"""A mark for each open grant: room on the disk, kept from the start, in which its end is written.

A full disk takes no new row in the store, but an overwritten block needs no room. So an end that the store
cannot take yet is for good all the same: whoever starts next reads it from the mark. A grant without its mark
is over.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guest.agent.files import make_private_folder, sync_folder, write_atomically

FOLDER = "break-glass-open"
SIZE = 4096
"""Bytes: a block of its own, so that the file system has set it aside."""
LOST = "mark_lost"
"""Why a grant is over whose mark is gone, or says what cannot be read."""
_OPEN = b"open".ljust(SIZE)


@dataclass(frozen=True)
class End:
    """Why a grant is over, for machines, and what its receipt says of it."""

    code: str
    told: dict[str, Any]


class Marks:
    """In one folder of the data volume."""

    def __init__(self, data: Path) -> None:
        """Raises OSError."""
        self._folder = data / FOLDER
        make_private_folder(self._folder)
        sync_folder(data)

    def make(self, ticket: str) -> None:
        """Before its grant is kept. Raises OSError: there is no room, so it must not be opened."""
        write_atomically(self._folder / ticket, _OPEN)

    def end(self, ticket: str, end: End) -> None:
        """Write the end down, if the ticket has a mark. The first end stays. Raises OSError."""
        try:
            descriptor = os.open(self._folder / ticket, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            if os.pread(descriptor, SIZE, 0) == _OPEN:
                os.pwrite(descriptor, _text(end), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def ended(self, ticket: str) -> End | None:
        """How the grant of this ticket has ended; None: it is open. Raises OSError."""
        try:
            text = (self._folder / ticket).read_bytes()
        except FileNotFoundError:
            return End(LOST, {})
        if text == _OPEN:
            return None
        try:
            found = json.loads(text)
            return End(str(found["code"]), dict(found["told"]))
        except (ValueError, TypeError, KeyError):
            return End(LOST, {})

    def remove(self, ticket: str) -> None:
        """The store says what the mark says."""
        with suppress(OSError):  # The next start sweeps it.
            (self._folder / ticket).unlink(missing_ok=True)

    def sweep(self, kept: set[str]) -> None:
        """Remove all others, and halves of marks: nothing was opened after one."""
        for each in self._folder.iterdir():
            if each.name not in kept:
                self.remove(each.name)


def _text(end: End) -> bytes:
    text = json.dumps({"code": end.code, "told": end.told}).encode()
    return (text if len(text) <= SIZE else json.dumps({"code": end.code, "told": {}}).encode()).ljust(SIZE)
