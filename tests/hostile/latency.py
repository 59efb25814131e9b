"""How long the neighbour's agent and the portal's pages take: medians and worst, in seconds."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from django.db import connection

from tests.e2e.nginx import free_port
from tests.provisioning.workers import ROOT

Ask = Callable[[], object]


@dataclass(frozen=True)
class Latency:
    """Of one thing, over one period."""

    median: float
    worst: float
    asked: int

    def __str__(self) -> str:
        return f"{self.median * 1000:.0f} ms (worst {self.worst * 1000:.0f} ms of {self.asked})"


def measured(ask: Ask, asked: int, until: float = float("inf")) -> Latency:
    """Ask again and again, so often, or until the time is up."""
    took: list[float] = []
    while len(took) < asked and (not took or time.monotonic() < until):
        began = time.monotonic()
        ask()
        took.append(time.monotonic() - began)
    return Latency(statistics.median(took), max(took), len(took))


@contextmanager
def portal(log: Path) -> Iterator[Ask]:
    """The portal's web process on the tests' database; gives a function that loads its sign-in page."""
    port = free_port()
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}"}
    gunicorn = [sys.executable, "-m", "gunicorn", "portal.wsgi:application", "--bind", f"127.0.0.1:{port}"]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*gunicorn, "--workers", "2", "--threads", "4", "--no-control-socket"],
            cwd=ROOT,
            env=environment,
            stdout=sink,
            stderr=sink,
        )
        try:
            with httpx.Client(trust_env=False, timeout=60, base_url=f"http://127.0.0.1:{port}") as client:
                _wait(client)
                yield lambda: _page(client)
        finally:
            process.terminate()
            process.wait(20)


def _page(client: httpx.Client) -> None:
    answer = client.get("/sign-in/", headers={"Host": "portal.localhost"}, follow_redirects=True)
    assert answer.status_code == 200, answer.status_code
    assert "Sign in" in answer.text


def _wait(client: httpx.Client) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            return _page(client)
        except httpx.TransportError:
            assert time.monotonic() < until, "the portal does not come up"
            time.sleep(0.2)
