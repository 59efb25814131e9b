"""The tenant's files. Content: only behind a member's session. Blocking; see :mod:`guest.agent.content`."""

import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guest.agent.beneath import WorkspaceRefused, checked, open_beneath, refusal_of
from guest.agent.uploads import Upload
from guest.agent.walk import Left, walk

PAGE = 1000
MAX_NAMES = 200_000
DELETE_SECONDS = 15.0
UNFINISHED = re.compile(r"\.unfinished-[0-9a-f]{32}")
"""Names of uploads under way. What an agent that died left behind goes with the next listing."""


@dataclass(frozen=True)
class Limits:
    """What the workspace takes. In bytes."""

    upload: int = 1 << 30
    """One file's."""
    reserve: int = 64 << 20
    """What uploads leave free on the volume: the agent's own state is on it too."""


@dataclass(frozen=True)
class Opened:
    """A regular file, open for reading. Close ``descriptor``."""

    descriptor: int
    name: str
    size: int
    tag: str
    """Another one when the file was changed."""


@dataclass
class Going:
    """How far a deletion has come, and whether it may go on: its thread asks before each entry."""

    stopped: threading.Event = field(default_factory=threading.Event)
    removed: int = 0


class Workspace:
    """One folder, and what members do in it."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self.limits, self._links = folder, limits, True
        self._under_way: set[str] = set()
        self._lock = threading.Lock()

    def without_links(self) -> "Workspace":
        """The same, following no link: what stands below a path in the tree is all that the path reaches.

        It shares the memory of uploads under way, so members' listings leave those alone. It sweeps nothing
        itself: who may only read deletes nothing, not even what an upload has left behind.
        """
        found = copy(self)
        found._links = False
        return found

    def listing(self, path: str, after: str = "") -> dict[str, Any]:
        """A page of what stands in the folder ``path``, by name, beginning behind the name ``after``."""
        with self._open(path, os.O_RDONLY | os.O_DIRECTORY) as folder:
            names = self._names(folder)
            behind = [name for name in names if name > os.fsencode(after)]
            entries = [found for name in behind[:PAGE] if (found := _entry(folder, name))]
        complete = len(behind) <= PAGE
        told: dict[str, Any] = {"entries": entries, "complete": complete}
        return told if complete else told | {"next": _shown(behind[PAGE - 1])}

    def open_file(self, path: str) -> Opened:
        """The file ``path`` for reading."""
        with self._root() as root:
            descriptor = open_beneath(root, _named(path), os.O_RDONLY | os.O_NONBLOCK, links=self._links)
            try:
                facts = os.fstat(descriptor)
                check_readable(facts, os.fstat(root).st_uid)
            except BaseException:
                os.close(descriptor)
                raise
        tag = f'"{facts.st_ino:x}-{facts.st_size:x}-{facts.st_mtime_ns:x}"'
        return Opened(descriptor, path.rpartition("/")[2], facts.st_size, tag)

    def begin(self, path: str, size: int | None) -> Upload:
        """An upload to ``path``; nothing is there until it is finished. ``size``: as announced."""
        if size is not None and size > self.limits.upload:
            raise WorkspaceRefused(413, "too_large", f"a file has at most {self.limits.upload} bytes")
        with self._parent(path) as (folder, name):
            if UNFINISHED.fullmatch(name):
                raise WorkspaceRefused(400, "bad_path", "names like this are kept for uploads under way")
            mode = _mode_to_be(folder, name)
            unfinished = f".unfinished-{secrets.token_hex(16)}"
            with self._lock:
                self._under_way.add(unfinished)
            try:
                return Upload(
                    folder,
                    name,
                    unfinished,
                    mode=mode,
                    limit=self.limits.upload,
                    reserve=self.limits.reserve,
                    size=size or 0,
                    over=self._over,
                )
            except BaseException:
                self._over(unfinished)
                raise

    def make_folder(self, path: str) -> None:
        """A new, empty folder. The kernel gives it the group, and the set-group-id bit, of the one above."""
        with self._parent(path) as (folder, name):
            os.mkdir(name, 0o770, dir_fd=folder)

    def delete(self, path: str, *, recursive: bool, going: Going | None = None) -> dict[str, Any]:
        """A file, a link (never what it leads to), or a folder. Incomplete: ask again to go on."""
        going = going or Going()
        with self._parent(path) as (folder, name):
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=folder)
                going.removed += 1
            elif recursive and not _empty(folder, name, going):
                return {"removed": going.removed, "complete": False}
            else:
                os.rmdir(name, dir_fd=folder)
                going.removed += 1
            return {"removed": going.removed, "complete": True}

    @contextmanager
    def folder(self, path: str) -> Iterator[tuple[int, int]]:
        """The folder ``path``, open, and the owner of the workspace."""
        with self._root() as root, self._open(path, os.O_RDONLY | os.O_DIRECTORY) as found:
            yield found, os.fstat(root).st_uid

    @contextmanager
    def _root(self) -> Iterator[int]:
        try:
            root = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            raise WorkspaceRefused(503, "no_workspace", "this machine has no workspace folder") from None
        try:
            yield root
        except OSError as failure:
            raise refusal_of(failure) from None
        finally:
            os.close(root)

    @contextmanager
    def _open(self, path: str, flags: int) -> Iterator[int]:
        with self._root() as root:
            descriptor = open_beneath(root, checked(path), flags, links=self._links)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        above, _, name = _named(path).rpartition("/")
        with self._open(above, os.O_RDONLY | os.O_DIRECTORY) as folder:
            yield folder, name

    def _names(self, folder: int) -> list[bytes]:
        names = []
        with os.scandir(folder) as found:
            for entry in found:
                if UNFINISHED.fullmatch(entry.name):
                    self._sweep(folder, entry.name)
                    continue
                names.append(os.fsencode(entry.name))
                if len(names) > MAX_NAMES:
                    raise WorkspaceRefused(413, "too_many", f"more than {MAX_NAMES} entries are not listed")
        return sorted(names)

    def _sweep(self, folder: int, name: str) -> None:
        with self._lock:
            if name in self._under_way or not self._links:
                return
        try:
            os.unlink(name, dir_fd=folder)
        except OSError:
            return  # A folder, or somebody else's: not an upload of ours.

    def _over(self, unfinished: str) -> None:
        with self._lock:
            self._under_way.discard(unfinished)


def check_readable(facts: os.stat_result, owner: int) -> None:
    """Only regular files; with other names (hard links) only if they can be its owner's work.

    Raises:
        WorkspaceRefused: it is something else, or may be a file of somebody else's outside.
    """
    if stat.S_ISDIR(facts.st_mode):
        raise OSError(errno.EISDIR, "")
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.ENXIO, "")
    if facts.st_nlink > 1 and facts.st_uid != owner:
        raise WorkspaceRefused(403, "hard_link", "this file has other names (hard links); copy it first")


def _named(path: str) -> str:
    if not path:
        raise WorkspaceRefused(400, "bad_path", "give the path of something in the workspace")
    return checked(path)


def _mode_to_be(folder: int, name: str) -> int:
    """Who replaces a program leaves it one."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0o660
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "")
    if not stat.S_ISREG(mode):
        raise OSError(errno.ENXIO, "")
    return 0o660 | (mode & 0o110)


def _empty(folder: int, name: str, going: Going) -> bool:
    """Delete what is in the folder ``name``; False: it was stopped, or time was not enough for all."""
    until = time.monotonic() + DELETE_SECONDS
    for step in walk(folder, name):
        if going.stopped.is_set() or time.monotonic() > until:
            return False
        if isinstance(step, Left):
            os.rmdir(step.name, dir_fd=step.folder)
        elif stat.S_ISDIR(step.facts.st_mode):
            continue
        else:
            os.unlink(step.name, dir_fd=step.folder)
        going.removed += 1
    return not going.stopped.is_set()


def _entry(folder: int, name: bytes) -> dict[str, Any] | None:
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    kind, size = _kind(facts.st_mode), facts.st_size
    told = {"name": _shown(name), "kind": kind, "size": size, "modified": int(facts.st_mtime)}
    return told if _is_utf8(name) else told | {"utf8": False}


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shown(name: bytes) -> str:
    """Names that are not UTF-8 can be seen, and go only with their folder."""
    return name.decode(errors="backslashreplace")


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"
