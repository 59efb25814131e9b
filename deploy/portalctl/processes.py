"""Processes that outlive the command: started in their own session, remembered with their start time,
ended by pid.

A pid alone may have been given to somebody else since; the pair (pid, start time) names one process for
good."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_START_TIME_FIELD = 22  # of /proc/PID/stat, counted from 1; proc(5)


@dataclass(frozen=True)
class Process:
    pid: int
    start_time: str

    def alive(self) -> bool:
        return start_time(self.pid) == self.start_time


def start_time(pid: int) -> str | None:
    """When the process started, in clock ticks since boot; None if there is none or only its remains."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[_START_TIME_FIELD - 3]


def identify(pid: int) -> Process | None:
    started = start_time(pid)
    return None if started is None else Process(pid, started)


def remember(pid_file: Path, pid: int) -> None:
    """Write down which process we started."""
    process = identify(pid)
    if process is not None:
        pid_file.write_text(f"{process.pid} {process.start_time}\n")


def recall(pid_file: Path) -> Process | None:
    """The process that we started, if it is still alive."""
    try:
        pid, started = pid_file.read_text().split()
        process = Process(int(pid), started)
    except (OSError, ValueError):
        return None
    return process if process.alive() else None


def daemon(
    argv: Sequence[str], *, cwd: Path, log: Path, pid_file: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that stays when we end, with its output appended to `log`."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    remember(pid_file, process.pid)
    return process


def stop(processes: Iterable[Process], *, patience: float) -> None:
    """Ask each to end; after `patience` seconds end those that are left."""
    left = [process for process in processes if _signal(process, signal.SIGTERM)]
    deadline = time.monotonic() + patience
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [process for process in left if process.alive()]
    for process in left:
        _signal(process, signal.SIGKILL)


def stop_remembered(pid_file: Path, *, patience: float) -> bool:
    """End the process of a pid file; False if it was not running."""
    process = recall(pid_file)
    if process is not None:
        stop([process], patience=patience)
    pid_file.unlink(missing_ok=True)
    return process is not None


def carrying(*settings: str) -> list[Process]:
    """Processes that were started with all of these `NAME=value` in their environment.

    Sees only what we may read.
    """
    wanted = {setting.encode() for setting in settings}
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environ = set((entry / "environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        process = identify(int(entry.name))
        if process is not None and wanted <= environ:
            found.append(process)
    return found


def _signal(process: Process, number: signal.Signals) -> bool:
    if not process.alive():
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True
