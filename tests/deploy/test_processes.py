"""Processes are ended by pid and start time, so never a stranger that got the pid since."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.portalctl import processes
from deploy.portalctl.processes import Process

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    environ = {"PORTAL_STATE_DIR": str(tmp_path), "PORTAL_ROLE": "web"}
    child = processes.daemon(
        ["sleep", "60"], cwd=tmp_path, log=tmp_path / "log", pid_file=tmp_path / "pid", env=environ
    )
    yield child
    child.kill()
    child.wait()


def test_a_remembered_process_is_found_and_ended(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert processes.recall(tmp_path / "pid") == processes.identify(sleeper.pid)
    assert processes.stop_remembered(tmp_path / "pid", patience=5) is True
    assert sleeper.wait(timeout=5) != 0
    assert processes.stop_remembered(tmp_path / "pid", patience=5) is False


def test_a_pid_given_to_somebody_else_is_left_alone(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{sleeper.pid} 1\n")
    assert processes.stop_remembered(tmp_path / "pid", patience=1) is False
    assert sleeper.poll() is None


def test_rubbish_in_a_pid_file_means_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("rubbish")
    assert processes.recall(tmp_path / "pid") is None
    assert processes.recall(tmp_path / "none") is None


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    child = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    process = processes.identify(child.pid)
    assert process is not None
    began = time.monotonic()
    processes.stop([process], patience=0.3)
    assert child.wait(timeout=5) == -9
    assert time.monotonic() - began < 4


def test_a_zombie_counts_as_ended() -> None:
    child = subprocess.Popen(["true"])
    process = Process(child.pid, "0")
    deadline = time.monotonic() + 5
    while processes.start_time(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes.start_time(child.pid) is None
    assert not process.alive()
    child.wait()


def test_stragglers_are_known_by_their_whole_environment(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    state = f"PORTAL_STATE_DIR={tmp_path}"
    assert [each.pid for each in processes.carrying(state, "PORTAL_ROLE=web")] == [sleeper.pid]
    assert processes.carrying(state, "PORTAL_ROLE=worker") == []
    assert processes.carrying(f"PORTAL_STATE_DIR={tmp_path}x", "PORTAL_ROLE=web") == []


def test_the_daemon_leads_its_own_session(sleeper: subprocess.Popen[bytes]) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid
