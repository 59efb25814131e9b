"""The keeper holds the simulated driver's state and ends when told."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_keeper_says_ready_and_obeys_sigterm(kept: None) -> None:
    command = [sys.executable, "-m", "provisioning.driver.keeper"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        keeper.send_signal(signal.SIGTERM)
        assert keeper.wait(10) == 0
