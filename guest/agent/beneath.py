"""Paths below one folder, kept there by the kernel itself (docs/adr/0017)."""

import ctypes
import errno
import os

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
OPENAT2 = 437
"""The system call's number, the same on every architecture; Python has no function for it."""
NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH = 0x01, 0x02, 0x04, 0x08
RESOLVE = NO_XDEV | NO_MAGICLINKS | BENEATH
"""Links that stay inside are followed; ``..``, absolute links, ``/proc`` links and mount points are not."""
TRIES = 16
"""The kernel asks to try again when something was renamed meanwhile."""


class WorkspaceRefused(Exception):
    """A request about files that cannot be met; the message says what to change."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


_WORDS = {
    errno.ENOENT: (404, "not_found", "there is nothing at this path"),
    errno.ENOTDIR: (409, "not_a_folder", "a part of this path is not a folder"),
    errno.EISDIR: (409, "is_a_folder", "there is a folder at this path"),
    errno.EEXIST: (409, "exists", "there is something at this path already"),
    errno.ENOTEMPTY: (409, "not_empty", "the folder is not empty; add recursive=1 to delete what is in it"),
    errno.EXDEV: (403, "outside", "the path leads out of the workspace"),
    errno.ELOOP: (403, "outside", "the path leads over a link that is not followed"),
    errno.EACCES: (403, "no_permission", "the file's permissions keep the agent out"),
    errno.EPERM: (403, "no_permission", "the file's permissions keep the agent out"),
    errno.ENXIO: (409, "not_a_file", "only regular files are read and written"),
    errno.EAGAIN: (409, "changing", "the folders of this path are being renamed; try again"),
    errno.ENAMETOOLONG: (400, "bad_path", f"a name has at most {MAX_NAME_BYTES} bytes"),
    errno.ENOSPC: (507, "disk_full", "the machine's disk is full; delete something first"),
    errno.EDQUOT: (507, "disk_full", "the machine's disk is full; delete something first"),
}


def refusal_of(failure: OSError) -> Exception:
    """What to answer for ``failure``; itself, if nobody foresaw it."""
    words = _WORDS.get(failure.errno or 0)
    return failure if words is None else WorkspaceRefused(*words)


def checked(path: str) -> str:
    """``path`` as given, if it names something below a folder; empty: the folder itself.

    Raises:
        WorkspaceRefused: anything else. Nothing is repaired, so that one file has one path.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise _bad("the path is not UTF-8") from None
    if len(encoded) > MAX_PATH_BYTES:
        raise _bad(f"a path has at most {MAX_PATH_BYTES} bytes")
    if b"\0" in encoded:
        raise _bad("a path has no NUL")
    for name in encoded.split(b"/") if path else ():
        if not name:
            raise _bad("leave out leading, trailing and double slashes")
        if name in {b".", b".."}:
            raise _bad("a path has no '.' or '..'")
        if len(name) > MAX_NAME_BYTES:
            raise _bad(f"a name has at most {MAX_NAME_BYTES} bytes")
    return path


def open_beneath(root: int, path: str, flags: int, *, links: bool = True) -> int:
    """Open ``path`` (see :func:`checked`) below the folder ``root``; answers the descriptor.

    ``links``: whether links that stay inside are followed.

    Raises:
        OSError: EXDEV where the path leads out, ELOOP where it leads over a link that is not to be
            followed, at whatever moment it was put in its way.
    """
    how = _How(flags | os.O_CLOEXEC | os.O_NOCTTY, 0, RESOLVE if links else RESOLVE | NO_SYMLINKS)
    number = 0
    for _ in range(TRIES):
        found = _syscall(OPENAT2, root, path.encode() or b".", ctypes.byref(how), ctypes.sizeof(how))
        if found >= 0:
            return int(found)
        number = ctypes.get_errno()
        if number not in {errno.EAGAIN, errno.EINTR}:
            break
    raise OSError(number, os.strerror(number))


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
)


def _bad(words: str) -> WorkspaceRefused:
    return WorkspaceRefused(400, "bad_path", words)
