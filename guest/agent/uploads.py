"""A file on its way into the workspace: whole under its name, or not there at all."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

from guest.agent.beneath import WorkspaceRefused, refusal_of

LOOK_EVERY = 8 << 20
"""Bytes between two looks at the free space."""


class Upload:
    """Written under a name of its own, then renamed. One thread at a time; ends with finish or abort."""

    def __init__(
        self,
        folder: int,
        name: str,
        unfinished: str,
        *,
        mode: int,
        limit: int,
        reserve: int,
        size: int,
        over: Callable[[str], None],
    ) -> None:
        """``size``: as announced, if it was. ``over``: gets ``unfinished`` at the end, however it ends."""
        self._name, self._unfinished, self._mode = name, unfinished, mode
        self._limit, self._reserve, self._over = limit, reserve, over
        self._hash, self.size, self._looked = sha256(), 0, 0
        self._folder = os.dup(folder)
        try:
            self._check_space(size)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            # Nobody else's until it is whole.
            self._file = os.open(unfinished, flags, 0o600, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            raise

    def write(self, data: bytes) -> None:
        """Append. Raises WorkspaceRefused: too much for the limit or the disk."""
        if self.size + len(data) > self._limit:
            raise WorkspaceRefused(413, "too_large", f"a file has at most {self._limit} bytes")
        if self.size + len(data) - self._looked > LOOK_EVERY:
            self._check_space(len(data))
            self._looked = self.size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as failure:
            raise refusal_of(failure) from None
        self._hash.update(data)
        self.size += len(data)

    def finish(self, stated: str) -> dict[str, Any]:
        """Give it its name, if it has the hash ``stated``; on return it survives a power cut."""
        if self._hash.hexdigest() != stated:
            raise WorkspaceRefused(
                422, "hash_differs", "the body is not what X-Content-SHA256 states; nothing was changed"
            )
        try:
            os.fchmod(self._file, self._mode)
            os.fsync(self._file)
            self._check_own()
            new = not _exists(self._folder, self._name)
            os.rename(self._unfinished, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)
        except OSError as failure:
            raise refusal_of(failure) from None
        self._close()
        return {"size": self.size, "sha256": stated, "created": new}

    def abort(self) -> None:
        """Leave nothing behind. After finish: does nothing."""
        if self._folder < 0:
            return
        with suppress(OSError):  # Gone already, or the next listing's to sweep.
            os.unlink(self._unfinished, dir_fd=self._folder)
        self._close()

    def _check_own(self) -> None:
        there = os.stat(self._unfinished, dir_fd=self._folder, follow_symlinks=False)
        if not os.path.samestat(there, os.fstat(self._file)):
            raise OSError(errno.EAGAIN, "")

    def _check_space(self, more: int) -> None:
        facts = os.fstatvfs(self._folder)
        if facts.f_bavail * facts.f_frsize - more < self._reserve:
            raise refusal_of(OSError(errno.ENOSPC, ""))

    def _close(self) -> None:
        os.close(self._file)
        os.close(self._folder)
        self._folder = -1
        self._over(self._unfinished)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
