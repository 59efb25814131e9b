"""Receipts as they come in, one a line: each is checked, and kept if the person wants to."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from client.errors import Failure, WrongAnswer
from client.log import Seen
from client.reading import optional, take
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


@dataclass(frozen=True)
class Listed:
    """What the portal's list says of an entry: by its word, until a receipt has proved it."""

    index: int | None
    action: str
    at: str

    @classmethod
    def of(cls, told: Any) -> Self:
        """From an answer. Raises WrongAnswer."""
        return cls(optional(told, "index", int), take(told, "action", str), take(told, "at", str))

    def fits(self, found: Checked) -> None:
        """Raises Failure: the receipt proves another entry than the one in the list."""
        event = found.event
        same = self.index in (None, found.index) and self.action == event.get("action")
        if not same or _moment(self.at) != _moment(event.get("at")):
            raise Failure(
                f"WARNING: the portal's list tells another thing than entry {found.index} of the log, which "
                f"says {plain(str(event.get('action')), 80)} at {plain(str(event.get('at')), 40)}."
            )


def same_tenant(found: Checked, tenant_id: str) -> None:
    """Raises Failure: the receipt is of an entry about somebody else."""
    if found.event.get("tenant") != tenant_id:
        raise Failure("WARNING: the portal sent an entry of another tenant than the one that was asked for.")


class Receipts:
    """Takes a body piece by piece. Leaving it closes the file, or removes it if something was wrong."""

    def __init__(self, seen: Seen, file: Path | None, tenant_id: str, listed: Iterable[Listed] = ()) -> None:
        self.count = 0
        self.notes: set[str] = set()
        """The checkpoints that they are proved in."""
        self._seen, self._path, self._rest, self._tenant_id = seen, file, b"", tenant_id
        self._both: list[tuple[Listed, Checked]] = []
        self._listed = {one.index: one for one in listed if one.index is not None}
        self._file = created(file) if file else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._file is not None and self._path is not None:
            self._file.close()
            if kind is not None:
                self._path.unlink(missing_ok=True)

    @property
    def unproved(self) -> int:
        """Entries of the list that no receipt has proved."""
        return len(self._listed)

    def fit_list(self) -> None:
        """Raises Failure: what was proved is not what the list says. Ask once the receipts' log is known."""
        for listed, found in self._both:
            listed.fits(found)

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
        same_tenant(found, self._tenant_id)
        if listed := self._listed.pop(found.index, None):
            self._both.append((listed, found))
        self.notes.add(Receipt.parse(line).proof.note)
        self.count += 1
        if self._file is not None:
            self._file.write(line + b"\n")


def created(path: Path) -> BinaryIO:
    """A new file that only its owner reads. Raises Failure: it exists, or cannot be written."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")
    except FileExistsError:
        raise Failure(f"{path} exists already and is not overwritten.") from None
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.") from None


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
