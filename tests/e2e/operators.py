"""An operator with a passkey in software, by way of the portal and nginx; and the worker that ends their access."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis
from django.conf import settings
from django.test import Client

from breakglass.models import Ticket
from portal.routing import COOKIE
from protocol.persons import Purpose
from tests.breakglass.staff import Colleague
from tests.e2e.conftest import Portal

ACME = "acme.portal.localhost"
ROOT = Path(__file__).resolve().parents[2]
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Operator:
    """One ticket's requester, in a browser of their own."""

    portal: Portal
    colleague: Colleague
    ticket: Ticket
    cookies: dict[str, str] = field(default_factory=dict)

    def enter(self) -> httpx.Response:
        """The button of the ticket's page, and over to the machine's origin: its break-glass page."""
        browser = Client()
        browser.force_login(self.colleague.user, backend="django.contrib.auth.backends.ModelBackend")
        answer = browser.post(f"/break-glass/{self.ticket.pk}/open/")
        url = answer.headers["Location"]
        assert url.startswith(self.portal.origin("acme")), url
        entered = self.portal.ask(ACME, "GET", url.partition(f":{self.portal.port}")[2])
        assert (entered.status_code, entered.headers["location"]) == (302, "/break-glass")
        self.cookies = {COOKIE: entered.cookies[COOKIE]}
        return self.ask("GET", "/break-glass")

    def sign_in(self, **lies: Any) -> httpx.Response:
        """The guest's challenge, signed with the requester's passkey on the guest's own page."""
        challenge = self.ask("POST", "/v1/break-glass/challenge").json()
        given = {"origin": self.portal.origin("acme"), **lies}
        signed = self.colleague.authenticator.sign(Purpose.ACCESS, challenge, **given)
        body = {"signature": {**signed, "nonce": challenge["nonce"]}}
        begun = self.ask("POST", "/v1/break-glass/sessions", json=body)
        if begun.is_success:
            self.cookies["__Host-bg"] = begun.cookies["__Host-bg"]
        return begun

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request through nginx."""
        return self.portal.ask(
            ACME, method, path, headers={**self.headers, **more.pop("headers", {})}, **more
        )

    @property
    def headers(self) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {**OWN_PAGE, "Origin": self.portal.origin("acme"), "Cookie": cookies}


@dataclass
class Stream:
    """A request under way in a thread of its own, until somebody ends it."""

    operator: Operator
    method: str
    path: str
    body: Any = None
    reads_on: bool = True
    """False: reads the beginning and then nothing until ``go_on`` is set, so that the stream stays open."""
    bytes: int = 0
    status: int = 0
    ended_at: float = 0.0
    """On ``time.monotonic``."""
    failure: str = ""

    def __post_init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        if self.reads_on:
            self.go_on.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "still open"

    def _run(self) -> None:
        portal = self.operator.portal
        headers = {"Host": f"{ACME}:{portal.port}", **self.operator.headers}
        url = f"http://127.0.0.1:{portal.port}{self.path}"
        try:
            with httpx.stream(
                self.method, url, headers=headers, json=self.body, timeout=90, trust_env=False
            ) as answer:
                self.status = answer.status_code
                for chunk in answer.iter_raw(16 * 1024):
                    self.bytes += len(chunk)
                    self.begun.set()
                    self.go_on.wait(120)
        except httpx.HTTPError as error:
            self.failure = type(error).__name__
        finally:
            self.ended_at = time.monotonic()
            self.begun.set()


@contextmanager
def urgent_worker(environment: dict[str, str], log: Path) -> Iterator[None]:
    """The urgent worker as the Procfile starts it, on the test's database and queue, until the block ends.

    The queue is empty at first: no worker took what the tests before asked for, and they were thousands.
    """
    with redis.Redis.from_url(settings.REDIS_URL) as store:
        store.delete(settings.URGENT_QUEUE)
    command = [sys.executable, "-m", "celery", "-A", "portal.urgent", "worker"]
    command += ["--hostname", f"urgent-{os.getpid()}@%h", "--pool", "threads", "--concurrency", "8"]
    with log.open("wb") as sink:
        worker = subprocess.Popen(
            [*command, "--loglevel", "INFO"], cwd=ROOT, env=environment, stdout=sink, stderr=sink
        )
    try:
        deadline = time.monotonic() + 90
        while b"ready." not in log.read_bytes():
            assert worker.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, "the worker does not start"
            time.sleep(0.1)
        yield
    finally:
        worker.terminate()
        try:
            worker.wait(timeout=20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait(timeout=10)


def until(condition: Any, seconds: float = 30) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.05)
