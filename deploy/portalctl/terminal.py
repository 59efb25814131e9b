"""What the operator sees: one line per event, with the time since the command began."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path

_BEGAN = time.monotonic()
_HINT_LINES = 15


class Stop(Exception):
    """The command cannot go on. Carries what went wrong, the log to read and what to do about it."""

    def __init__(self, what: str, *, todo: str = "", log: Path | None = None) -> None:
        super().__init__(what)
        self.what, self.todo, self.log = what, todo, log


def say(line: str = "") -> None:
    """Write one line as it is."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def elapsed() -> float:
    """Seconds since the command began."""
    return time.monotonic() - _BEGAN


def progress(stage: str, text: str) -> None:
    """Write one line of progress: `[ 12.3s] stage: text`."""
    say(f"[{elapsed():5.1f}s] {stage}: {text}")


def warn(stage: str, text: str) -> None:
    """Write a line about something that does not stop the command, but that the operator should know."""
    progress(stage, f"NOTE: {text}")


def tail(path: Path, lines: int = _HINT_LINES) -> list[str]:
    """The last lines of a log; none if there is no such file."""
    try:
        return path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def explain(command: str, stop: Stop) -> None:
    """Say why the command stopped: what went wrong, which log to read, what to do."""
    if stop.log is not None:
        _quote(tail(stop.log))
    parts = [f"make {command} stopped: {stop.what}"]
    if stop.log is not None:
        parts.append(f"Log: {stop.log}")
    if stop.todo:
        parts.append(f"To do: {stop.todo}")
    sys.stdout.flush()
    sys.stderr.write("\n" + "\n  ".join(parts) + "\n")


def _quote(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(f"    | {line}\n")
