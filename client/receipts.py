"""Receipts as they come in, one a line: each is checked, and kept if the person wants to."""

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from client.errors import Failure, WrongAnswer
from client.log import Seen
from client.screen import plain
from protocol.receipts import MAX_RECEIPT_BYTES, Checked, Receipt, ReceiptError, check


def checked(seen: Seen, raw: bytes) -> Checked:
    """What a receipt proves, by the log's key that this device knows.

    Raises:
        Failure: nothing; it must not be believed.
    """
    try:
        return check(Receipt.parse(raw), seen.key)
    except ReceiptError as error:
        raise Failure(
            f"WARNING: the portal sent a receipt that proves nothing: {plain(str(error))}."
        ) from None


class Receipts:
    """Takes a body piece by piece. Leaving it closes the file, or removes it if something was wrong."""

    def __init__(self, seen: Seen, file: Path | None) -> None:
        self.count = 0
        self.notes: set[str] = set()
        """The checkpoints that they are proved in."""
        self._seen, self._path, self._rest, self._tenants = seen, file, b"", set[str]()
        self._file = _created(file) if file else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._file is not None and self._path is not None:
            self._file.close()
            if kind is not None:
                self._path.unlink(missing_ok=True)

    def take(self, _status: int, piece: bytes) -> None:
        """The next piece of a body. Raises Failure."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > MAX_RECEIPT_BYTES:
            raise WrongAnswer("The portal sent a receipt that is too long.")

    def end(self) -> None:
        """The body is over. Raises WrongAnswer: in the middle of a line."""
        if self._rest:
            raise WrongAnswer("The portal broke off in the middle of a receipt.")

    def _line(self, line: bytes) -> None:
        found = checked(self._seen, line)
        self._tenants.add(str(found.event.get("tenant")))
        if len(self._tenants) > 1:
            raise WrongAnswer("The portal sent entries of more than one tenant.")
        self.notes.add(Receipt.parse(line).proof.note)
        self.count += 1
        if self._file is not None:
            self._file.write(line + b"\n")


def _created(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")
    except FileExistsError:
        raise Failure(f"{path} exists already and is not overwritten.") from None
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.") from None
