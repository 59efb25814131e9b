"""A process that has loaded Django, and forks a sequencer of its own for each case: one that a test may kill.

Run as ``python -m tests.audit.nursery``: each line on its input is a JSON object with ``fault``, ``folder`` and
``batch``; each line on its output is the child's exit code, negative for the signal that ended it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
FAILED = 3


class Nursery:
    """The nursery's own side of the pipe, for tests."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.audit.nursery"],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.communicate(timeout=30)

    def sequence(self, folder: Path, fault: str = "", batch: int = 5_000) -> int:
        """Run a whole turn in a fresh process. Its exit code: 0, FAILED, or minus the signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"fault": fault, "folder": str(folder), "batch": batch}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _child(order: dict[str, str]) -> int:
    from django.db import Error

    from audit.faults import InjectedFault, arm
    from audit.sequencer import sequence_once

    arm({"PORTAL_ALLOW_FAULTS": "1", "PORTAL_FAULT": order["fault"]})
    try:
        sequence_once(folder=Path(order["folder"]), batch=int(order["batch"]))
    except (InjectedFault, Error, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return FAILED
    return 0


def main() -> None:
    import django

    django.setup()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(_child(json.loads(line)))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
