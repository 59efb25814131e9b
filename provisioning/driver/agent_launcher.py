"""``python -m provisioning.driver.agent_launcher DIR NONCE COMMAND…``: become the local agent of one runtime.

The lock on ``DIR/lock`` is inherited by the agent and so is held exactly as long as it lives: a second
launcher finds it taken, and nobody needs to trust a process id. ``DIR/wanted`` must still hold NONCE once
the lock is ours; a stop in the meantime has removed it, and then nothing is launched.
"""

import fcntl
import os
import sys
import time
from pathlib import Path

TAKEN = 75
WAIT_SECONDS = 3.0


def start_time(pid: int) -> str | None:
    """The kernel's start time of a process (clock ticks since boot), or None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]  # field 22; the name before it may hold spaces


def main(arguments: list[str]) -> int:
    """Fork the agent and return 0; also 0 if it is no longer wanted, `TAKEN` if another one runs."""
    directory, nonce, command = Path(arguments[0]), arguments[1], arguments[2:]
    try:
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:  # the runtime was removed meanwhile
        return 0
    # A launcher of a worker that died may hold the lock for an instant, only to find itself unwanted.
    deadline = time.monotonic() + WAIT_SECONDS
    while not _locked(lock):
        if not _wanted(directory, nonce):
            return 0
        if time.monotonic() > deadline:
            return TAKEN
        time.sleep(0.02)
    if not _wanted(directory, nonce):
        return 0
    if os.fork() > 0:
        return 0  # so that the agent is no child of a worker, which could only leave it a zombie
    pid = os.getpid()
    (directory / "pid").write_text(f"{pid} {start_time(pid)}")
    os.set_inheritable(lock, True)
    try:
        os.execvp(command[0], command)  # noqa: S606 - a list, and no shell is the point
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        os._exit(127)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wanted(directory: Path, nonce: str) -> bool:
    try:
        return (directory / "wanted").read_text() == nonce
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
