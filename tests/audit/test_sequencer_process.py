"""The process itself, in its own role: it signs until it is told to end, and a second one waits for it."""

import base64
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from audit.models import Checkpoint, Leaf
from audit.sequencer import memory
from protocol import checkpoints
from protocol.notes import VerifierKey, new_key
from tests.audit.conftest import write

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "portal.example/log/process"


class Processes:
    """Sequencers of one machine, with a key that this test's own process does not hold."""

    def __init__(self, environment: dict[str, str], state: Path) -> None:
        seed, self.vkey = new_key(ORIGIN)
        kept = ("PATH", "DATABASE_URL", "DJANGO_SETTINGS_MODULE", "PORTAL_FLEET_ID")
        self._environment = {name: environment[name] for name in kept if name in environment} | {
            "PORTAL_ROLE": "sequencer",
            "PORTAL_LOG_KEY": base64.b64encode(seed).decode(),
            "PORTAL_LOG_VKEY": str(self.vkey),
            "PORTAL_STATE_DIR": str(state),
            "PORTAL_SEQUENCE_SECONDS": "0.1",
        }
        self._log = (state / "log").open("w")
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "manage.py", "sequencer"]
        started = subprocess.Popen(argv, cwd=ROOT, env=self._environment, stderr=self._log, stdout=self._log)
        self._started.append(started)
        return started

    def end(self) -> None:
        for each in self._started:
            each.kill()
            each.wait(20)
        self._log.close()


@pytest.fixture
def processes(children_environment: dict[str, str], tmp_path: Path) -> Iterator[Processes]:
    made = Processes(children_environment, tmp_path)
    yield made
    made.end()


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def signed_by(vkey: VerifierKey) -> int:
    newest = Checkpoint.objects.order_by("-size").first()
    return checkpoints.opened(newest.note, vkey).size if newest else 0


def remembered(size: int) -> memory.Signed:
    """What the machine is to remember, a moment after the commit."""
    return memory.Signed(ORIGIN, size, bytes(Checkpoint.objects.get(size=size).root))


def test_it_signs_until_it_is_told_to_end(processes: Processes, tmp_path: Path) -> None:
    write(3)
    first = processes.start()
    until(lambda: signed_by(processes.vkey) == 3)
    write(2)
    until(lambda: signed_by(processes.vkey) == 5)
    second = processes.start()
    until(lambda: "another sequencer runs" in (tmp_path / "log").read_text())
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    write(2)
    until(lambda: signed_by(processes.vkey) == 7)
    assert second.poll() is None
    until(lambda: memory.read(tmp_path / "sequencer") == remembered(7))
    assert Leaf.objects.count() == 7


def test_a_killed_one_is_followed_at_once(processes: Processes, tmp_path: Path) -> None:
    """Its lock goes with it."""
    write(3)
    first = processes.start()
    until(lambda: signed_by(processes.vkey) == 3)
    processes.start()
    until(lambda: "another sequencer runs" in (tmp_path / "log").read_text())
    first.kill()
    write(2)
    until(lambda: signed_by(processes.vkey) == 5)


def test_without_the_key_it_does_not_start(children_environment: dict[str, str]) -> None:
    """A web process with its own environment cannot sign."""
    environment = {**children_environment, "PORTAL_ROLE": "web", "PORTAL_LOG_VKEY": settings.LOG_VKEY}
    for name in ("PORTAL_WRAPPING_KEY", "LIBVIRT_URI"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "manage.py", "sequencer", "--once"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "has no PORTAL_LOG_KEY" in done.stderr
