"""A folder as a tar stream: what is in it, links as links, nothing else's content."""

import os
import stat
import tarfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from guest.agent.beneath import WorkspaceRefused
from guest.agent.walk import Found, walk
from guest.agent.workspace import UNFINISHED, Workspace, check_readable

CHUNK = 256 * 1024
MAX_ENTRIES = 200_000
MAX_BYTES = 16 << 30


class Cut(Exception):
    """The stream cannot go on: limits are passed. Its reader must see that it is not whole."""


@dataclass
class Count:
    """What has been put in."""

    entries: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """Raises Cut."""
        self.entries += 1
        self.size += size
        if self.entries > MAX_ENTRIES or self.size > MAX_BYTES:
            raise Cut


def measure(workspace: Workspace, path: str) -> None:
    """Look before the first byte is sent. Raises WorkspaceRefused: the folder is too much for one archive."""
    count = Count()
    try:
        with workspace.folder(path) as (folder, _):
            for step in walk(folder, "."):
                if isinstance(step, Found):
                    count.add(step.facts.st_size if stat.S_ISREG(step.facts.st_mode) else 0)
    except Cut:
        raise WorkspaceRefused(
            413,
            "too_large",
            f"an archive has at most {MAX_ENTRIES} entries and {MAX_BYTES >> 30} GiB; take less",
        ) from None


def archive(workspace: Workspace, path: str) -> Generator[bytes, None, None]:
    """The stream, in pieces. Sockets, devices and unreadable files are left out."""
    count = Count()
    with workspace.folder(path) as (folder, owner):
        for step in walk(folder, "."):
            if isinstance(step, Found) and not UNFINISHED.fullmatch(step.name):
                yield from _member(step, owner, count)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(found: Found, owner: int, count: Count) -> Iterator[bytes]:
    mode = found.facts.st_mode
    if stat.S_ISREG(mode):
        yield from _file(found, owner, count)
    elif stat.S_ISDIR(mode):
        count.add(0)
        yield _head(found, tarfile.DIRTYPE)
    elif stat.S_ISLNK(mode):
        try:
            target = os.readlink(found.name, dir_fd=found.folder)
        except OSError:
            return
        count.add(0)
        yield _head(found, tarfile.SYMTYPE, target=target)


def _file(found: Found, owner: int, count: Count) -> Iterator[bytes]:
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(found.name, flags, dir_fd=found.folder)
    except OSError:
        return
    try:
        facts = os.fstat(descriptor)
        try:
            check_readable(facts, owner)
        except (OSError, WorkspaceRefused):
            return
        count.add(facts.st_size)
        yield _head(found, tarfile.REGTYPE, size=facts.st_size)
        yield from _content(descriptor, facts.st_size)
    finally:
        os.close(descriptor)


def _content(descriptor: int, size: int) -> Iterator[bytes]:
    """Exactly ``size`` bytes, whatever happens to the file, filled up to whole blocks."""
    left = size
    while left:
        data = os.read(descriptor, min(CHUNK, left)) or bytes(min(CHUNK, left))
        left -= len(data)
        yield data
    if size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - size % tarfile.BLOCKSIZE)


def _head(found: Found, kind: bytes, *, size: int = 0, target: str = "") -> bytes:
    member = tarfile.TarInfo(found.path)
    member.type, member.size, member.linkname = kind, size, target
    # No set-id bits, and no user or group of this machine.
    member.mode = 0o777 if kind == tarfile.SYMTYPE else found.facts.st_mode & 0o777
    member.mtime = int(found.facts.st_mtime)
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
