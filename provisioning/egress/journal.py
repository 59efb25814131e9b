"""The files of records: Squid writes into the newest, through a link; a full one gets a successor."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES = 4 << 20
MAX_FILES = 64
_NAME = re.compile(r"records-([0-9]{10})\.log")


def file_name(number: int) -> str:
    """The name of one file of records."""
    return f"records-{number:010}.log"


@dataclass
class Journal:
    """``first`` to ``last`` are there to be read; only ``last`` still grows."""

    folder: Path
    link: Path
    """What Squid opens."""
    max_bytes: int = MAX_BYTES
    max_files: int = MAX_FILES
    first: int = field(init=False, default=0)
    last: int = field(init=False, default=0)

    def begin(self) -> None:
        """Point Squid to the last file, or to a new one if that is full or ends in the middle of a line, as
        it does if Squid was killed.
        """
        numbers = self._numbers()
        last = numbers[-1] if numbers else 1
        self._open(last if self._goes_on(last) else last + 1)
        self.publish()

    @property
    def full(self) -> bool:
        """Whether it is time for the next file. Also if somebody has removed the newest."""
        try:
            return self._newest().stat().st_size >= self.max_bytes
        except FileNotFoundError:
            return True

    def next(self) -> None:
        """Make the next file, and the link to it; Squid must be told, and only then is it published."""
        self._open(max([*self._numbers()[-1:], self.last]) + 1)

    def held_by(self, pid: int) -> bool:
        """Whether that process has the newest file open."""
        wanted = self.link.stat()
        for path in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
        return False

    def publish(self) -> None:
        """Say that the files before the newest are finished, and drop the oldest."""
        numbers = self._numbers()
        for number in numbers[: -self.max_files]:
            (self.folder / file_name(number)).unlink(missing_ok=True)
        kept = numbers[-self.max_files :]
        self.first, self.last = kept[0], kept[-1]

    def _goes_on(self, number: int) -> bool:
        try:
            with (self.folder / file_name(number)).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                return size < self.max_bytes and file.read() in {b"", b"\n"} and os.access(file.name, os.W_OK)
        except FileNotFoundError:
            return True
        except PermissionError:
            return False

    def _open(self, number: int) -> None:
        path = self.folder / file_name(number)
        path.touch(mode=0o640)
        fresh = self.link.with_name(f".{self.link.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(path)
        fresh.replace(self.link)

    def _newest(self) -> Path:
        return self.folder / file_name(self.last)

    def _numbers(self) -> list[int]:
        return sorted(
            int(found[1]) for path in self.folder.iterdir() if (found := _NAME.fullmatch(path.name))
        )
