"""Celery and Redis for real: messages doubled and lost, the broker gone; every operation runs once."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from audit.context import command
from audit.models import Entry
from provisioning.fleet import audit_fleet
from provisioning.models import GuestImage, Host, Operation
from provisioning.sequences import SEQUENCES
from provisioning.services import runtime_create
from tenants.models import Tenant
from tests.provisioning.workers import ROOT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
OPERATIONS = 20
OUTAGE_SECONDS = 30.0


class Broker:
    """A Redis of the test's own."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                self._directory,
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("redis-server did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def fleet_of_workers(broker: Broker, children_environment: dict[str, str], tmp_path: Path) -> Iterator[None]:
    """Two workers and a beat, as processes, that sweep every second."""
    environment = {**children_environment, "REDIS_URL": broker.url, "PORTAL_SWEEP_SECONDS": "1"}
    celery = [sys.executable, "-m", "celery", "-A", "portal"]
    commands = [
        [*celery, "worker", "--concurrency", "1", "--hostname", "one@%h", "--loglevel", "WARNING"],
        [*celery, "worker", "--concurrency", "1", "--hostname", "two@%h", "--loglevel", "WARNING"],
        [*celery, "beat", "--schedule", str(tmp_path / "beat"), "--pidfile="],
    ]
    with (tmp_path / "celery.log").open("wb") as log:
        processes = [
            subprocess.Popen(c, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
            for c in commands
        ]
        yield
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.25)


def finished() -> int:
    return Operation.objects.filter(state=Operation.State.SUCCEEDED).count()


def test_each_operation_runs_once(
    fleet_of_workers: None,
    broker: Broker,
    simulated_host: Host,
    image: GuestImage,
    make_tenant: Callable[..., Tenant],
    settings: Any,
) -> None:
    """Every third message is lost, the others come three times, and Redis is dead for 30 s in between."""
    settings.PILOT_TENANT_CAP = OPERATIONS
    Host.objects.update(memory_mib=65536, vcpus=32, disk_gib=500, build_slots=3)
    sender = Celery(broker=broker.url, set_as_current=False)
    queue = settings.CELERY_TASK_DEFAULT_QUEUE
    for number in range(OPERATIONS):
        # The test's own broker setting leads nowhere, so the request's own message is always lost.
        operation = runtime_create(actor=command("test"), tenant=make_tenant(f"tenant-{number}"))
        if number % 3:
            for _ in range(3):
                sender.send_task("provisioning.tasks.operation_run", args=[str(operation.pk)], queue=queue)
    wait_until(lambda: finished() >= 3, 60)
    broker.stop()
    time.sleep(OUTAGE_SECONDS)
    broker.start()
    wait_until(lambda: finished() == OPERATIONS, 120)

    steps = len(SEQUENCES[Operation.Kind.CREATE])
    for operation in Operation.objects.all():
        mine = Entry.objects.filter(target_id=str(operation.pk))
        assert mine.filter(action="operation.step_done").count() == steps
        assert mine.filter(action="operation.succeeded").count() == 1
        assert [s.attempts for s in operation.steps.all()] == [1] * steps
    assert audit_fleet() == []
