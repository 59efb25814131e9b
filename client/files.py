"""Files that only their owner may read: the device key, recovery keys, and what is remembered."""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.errors import Failure

FOLDER = "managed-host-portal"
MAX_BYTES = 4 * 1024 * 1024


def default_folder() -> Path:
    """Where things are kept unless the person says otherwise."""
    # The specification of base directories says that a relative path is to be ignored.
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".config") / FOLDER


def prepare(folder: Path) -> None:
    """Make ``folder`` with mode 0700, or check that it has no wider one.

    Raises:
        Failure: others can look into it, it is somebody else's, or it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError as error:
        raise Failure(f"{folder} cannot be used: {error.strerror}.") from None
    if facts.st_uid != os.geteuid():
        raise Failure(f"{folder} belongs to somebody else. Choose another one with --config.")
    if facts.st_mode & 0o077:
        raise Failure(f"Others can look into {folder}. Run: chmod 700 {folder}")


def create(path: Path, data: bytes) -> None:
    """Write a new file with mode 0600, down to the disk.

    Raises:
        Failure: it exists already, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Failure(f"{path} exists already and is not overwritten.") from None
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Failure(f"{path} cannot be written: {error.strerror}.") from None


def read(path: Path) -> bytes:
    """The content of a file that nobody else can read.

    Raises:
        FileNotFoundError: there is none.
        Failure: others can read it, it is somebody else's, or it is no ordinary file.
    """
    try:
        # Not blocking: a named pipe in its place would keep us waiting.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise Failure(f"{path} is not a file.")
        if facts.st_uid != os.geteuid():
            raise Failure(f"{path} belongs to somebody else and is not used.")
        if facts.st_mode & 0o077:
            raise Failure(f"Others can read {path}, so it is not used. Run: chmod 600 {path}")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Failure(f"{path} is too long to be one of ours.")
    return data


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` in place of what is there, all or nothing, with mode 0600. Raises Failure."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.") from None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold others of this program off ``folder``, so that two of them do not undo each other's note."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
