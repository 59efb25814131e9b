"""The process that stands in for a guest on the simulated engine."""

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from provisioning.driver.agent_launcher import TAKEN, start_time
from provisioning.driver.faults import around
from provisioning.driver.types import CallFailed

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_TIMEOUT_SECONDS = 30.0
GRACE_SECONDS = 10.0
"""How long a launch may be under way before its absence counts as a crash."""
_POLL_SECONDS = 0.02


class LocalAgent:
    """One runtime's agent, found again by any process through the files in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._wanted = directory / "wanted"

    def alive(self) -> bool:
        """Whether the agent (or its launcher) runs."""
        try:
            lock = os.open(self._directory / "lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look do not see each other
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def launching(self) -> bool:
        """Whether a launch began within `GRACE_SECONDS`."""
        try:
            return time.time() - self._wanted.stat().st_mtime < GRACE_SECONDS
        except FileNotFoundError:
            return False

    def ensure(self, command: Sequence[str]) -> bool:
        """Launch ``command`` unless it runs. Its output goes to ``log`` in the directory.

        Raises:
            CallFailed: it could not be launched.
        """
        if self.alive():
            return False
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        nonce = secrets.token_hex(8)
        self._wanted.write_text(nonce)
        launcher = [sys.executable, "-m", "provisioning.driver.agent_launcher", str(self._directory), nonce]
        with (self._directory / "log").open("ab") as log, around("agent.launch"):
            try:
                done = subprocess.run(
                    [*launcher, *command],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    timeout=LAUNCH_TIMEOUT_SECONDS,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise CallFailed(
                    f"The simulated guest's agent did not launch: {type(error).__name__}."
                ) from None
        if done.returncode == TAKEN and self.alive():
            return False
        if done.returncode != 0:
            raise CallFailed(f"The simulated guest's agent did not launch. See {self._directory / 'log'}.")
        return True

    def stop(self, signal_number: signal.Signals, timeout_seconds: float) -> bool:
        """Send the signal and wait. True if the agent is gone by then, and none can come after."""
        self._wanted.unlink(missing_ok=True)
        deadline = time.monotonic() + timeout_seconds
        with around("agent.stop"):
            signalled: int | None = None
            while self.alive():
                pid = self._pid()
                if pid is not None and pid != signalled:
                    self._signal(pid, signal_number)
                    signalled = pid
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_POLL_SECONDS)
        return True

    def halt(self) -> None:
        """Stop it where it stands (SIGSTOP). Only `stop` with SIGKILL ends it then."""
        pid = self._pid()
        if pid is not None and self.alive():
            self._signal(pid, signal.SIGSTOP)

    def forget(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _pid(self) -> int | None:
        """The agent's process id if it is still the process that wrote the file."""
        try:
            pid, started = (self._directory / "pid").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if start_time(int(pid)) == started else None

    @staticmethod
    def _signal(pid: int, signal_number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # gone between look and call, which is what we want
            os.kill(pid, signal_number)
