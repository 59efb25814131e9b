"""What a stop at any instant can leave of a folder: a killed process, or a machine that loses its power.

A deed is run once while its file operations are written down; every state that the disk can then have been left in
is worked out from these. A killed process leaves all that was done. After a power cut, what was not synced may be
there or not: names in the order in which they were changed, contents as they were, as they became, or as zeros.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Files = dict[str, tuple[int, bytes]]
"""One folder: number and content by name. Two names of one file have one number."""
NAME_CHANGES = {"create", "link", "rename", "unlink"}


@dataclass
class Recording:
    """The file operations of one deed in one folder. Files have numbers, as an inode has."""

    names: dict[str, int]
    data: dict[int, bytes]
    log: list[tuple[Any, ...]] = field(default_factory=list)

    def states(self, since: int = 0) -> list[Files]:
        """Every state that a stop before, between or after the operations can leave; each once.

        ``since``: only stops after so many operations; as many as there are: after the last one.
        """
        found: dict[frozenset[tuple[str, tuple[int, bytes]]], Files] = {}
        for names, data, safe_names, safe_data, pending in list(self._moments())[since:]:
            every = [_apply(safe_names, pending[:count]) for count in range(len(pending) + 1)]
            zeros = {each: bytes(len(content)) for each, content in data.items()}
            unsafe = {each for each in data if data[each] != safe_data[each]}
            for contents in (safe_data, data, {**data, **{each: zeros[each] for each in unsafe}}):
                for each in every:
                    files = {name: (number, contents[number]) for name, number in each.items()}
                    found[frozenset(files.items())] = files
            files = {name: (number, data[number]) for name, number in names.items()}
            found[frozenset(files.items())] = files
        return list(found.values())

    def freed_in_clear(self) -> int:
        """How many files lost their last name before zeros in their place were safe on the disk."""
        held, freed = set(self.names.values()), set[int]()
        for names, _, _, safe_data, _ in self._moments():
            gone = held - set(names.values())
            freed |= {each for each in gone if any(safe_data[each])}
            held = set(names.values())
        return len(freed)

    def _moments(self) -> Iterator[tuple[Any, ...]]:
        names, data = dict(self.names), dict(self.data)
        safe_names, safe_data, pending = dict(names), dict(data), list[tuple[Any, ...]]()
        yield names, data, safe_names, safe_data, pending
        for operation in self.log:
            kind, *about = operation
            if kind in NAME_CHANGES:
                names, pending = _apply(names, [operation]), [*pending, operation]
                if kind == "create":
                    data, safe_data = {**data, about[1]: b""}, {**safe_data, about[1]: b""}
            elif kind == "write":
                number, at, content = about
                before = data[number].ljust(at, b"\0")
                data = {**data, number: before[:at] + content + before[at + len(content) :]}
            elif kind == "truncate":
                data = {**data, about[0]: b""}
            elif kind == "sync":
                safe_data = {**safe_data, about[0]: data[about[0]]}
            else:
                safe_names, pending = dict(names), []
            yield names, data, safe_names, safe_data, pending


def _apply(names: dict[str, int], operations: list[tuple[Any, ...]]) -> dict[str, int]:
    found = dict(names)
    for kind, name, *more in operations:
        if kind == "create":
            found[name] = more[0]
        elif kind == "link":
            found[more[0]] = found[name]
        elif kind == "rename":
            found[more[0]] = found.pop(name)
        else:
            del found[name]
    return found


class Recorder:
    """Stands before the functions of ``os`` that change files, and does what they do, or fails at one of them."""

    def __init__(self, folder: Path, fail_at: int = -1, error: int = errno.EIO) -> None:
        self._folder, self._open = folder, dict[int, tuple[int | None, int]]()
        self._steps, self._fail_at, self._error = 0, fail_at, error
        files = {path.name: (path.stat().st_ino, path.read_bytes()) for path in sorted(folder.iterdir())}
        self._names = {name: number for name, (number, _) in files.items()}
        self.recording = Recording(dict(self._names), dict(files.values()))
        self._next = 2**64  # beyond every inode's number
        self._real = {
            name: getattr(os, name) for name in ("open", "close", "write", "fsync", "link", "unlink")
        }
        self._real |= {"replace": os.replace, "rename": os.rename}

    @contextmanager
    def at_work(self) -> Iterator[Recording]:
        """For the time of the block."""
        for name in self._real:
            setattr(os, name, getattr(self, f"_{name}_file"))
        try:
            yield self.recording
        finally:
            for name, real in self._real.items():
                setattr(os, name, real)

    @property
    def failed(self) -> bool:
        """Whether it came to the operation that fails."""
        return self._steps > self._fail_at >= 0

    def _step(self) -> None:
        self._steps += 1
        if self._steps == self._fail_at + 1:
            raise OSError(self._error, os.strerror(self._error))

    def _note(self, *operation: Any) -> None:
        self.recording.log.append(operation)

    def _change_names(self, *operation: Any) -> None:
        self._note(*operation)
        self._names = _apply(self._names, [operation])

    def _open_file(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        self._step()
        descriptor: int = self._real["open"](path, flags, mode, **more)
        if Path(path).parent != self._folder:
            self._open[descriptor] = (None, 0)
            return descriptor
        name = Path(path).name
        if name not in self._names:
            self._next += 1
            self._change_names("create", name, self._next)
        elif flags & os.O_TRUNC:
            self._note("truncate", self._names[name])
        self._open[descriptor] = (self._names[name], 0)
        return descriptor

    def _close_file(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write_file(self, descriptor: int, content: bytes) -> int:
        self._step()
        number, at = self._open[descriptor]
        count: int = self._real["write"](descriptor, content)
        half = count // 2
        for first, part in ((at, content[:half]), (at + half, content[half:count])):
            self._note("write", number, first, bytes(part))
        self._open[descriptor] = (number, at + count)
        return count

    def _fsync_file(self, descriptor: int) -> None:
        self._step()
        number, _ = self._open[descriptor]
        self._real["fsync"](descriptor)
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        self._note(*(("sync_folder",) if folder else ("sync", number)))

    def _link_file(self, old: Any, new: Any) -> None:
        self._step()
        self._real["link"](old, new)
        self._change_names("link", Path(old).name, Path(new).name)

    def _unlink_file(self, path: Any, **more: Any) -> None:
        self._step()
        self._real["unlink"](path, **more)
        if Path(path).parent == self._folder:
            self._change_names("unlink", Path(path).name)

    def _replace_file(self, old: Any, new: Any) -> None:
        self._step()
        self._real["replace"](old, new)
        self._change_names("rename", Path(old).name, Path(new).name)

    _rename_file = _replace_file


def recorded(folder: Path, deed: Callable[[], Any]) -> Recording:
    """Do it, in ``folder``, and tell how."""
    with Recorder(folder).at_work() as recording:
        deed()
    return recording


def lay_out(folder: Path, files: Files) -> Path:
    """``folder`` with exactly these files."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    first: dict[int, Path] = {}
    for name, (number, content) in files.items():
        if number in first:
            os.link(first[number], folder / name)
        else:
            first[number] = folder / name
            first[number].write_bytes(content)
    return folder
