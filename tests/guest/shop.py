"""A guest with a launcher's double, and members who want jobs done, for tests."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.guest.conftest import Site
from tests.guest.files import Person, Reply, at
from tests.guest.fleet import ROOT, Agent, running
from tests.guest.test_gate import pin, sign_in
from tests.protocol.people import MEMBER, OWNER, Device, entry

OVER = {"succeeded", "failed", "cancelled", "interrupted"}


@dataclass
class Shop:
    """A guest with a launcher, an owner and a member."""

    site: Site

    @property
    def folder(self) -> Path:
        return self.site.folder / "jobs"

    @property
    def socket(self) -> Path:
        return self.site.folder / "launcher.sock"

    @contextmanager
    def agent(self) -> Iterator[Agent]:
        with running(self.site.personalisation, self.site.data, "--launcher", str(self.socket)) as agent:
            yield agent

    @contextmanager
    def launcher(self) -> Iterator["subprocess.Popen[bytes]"]:
        line = [sys.executable, "-m", "tests.guest.launcher_double", str(self.socket), str(self.folder)]
        process = subprocess.Popen(line, cwd=ROOT)
        try:
            wait_for(self.socket.exists)
            yield process
        finally:
            process.kill()
            process.wait()
            self.socket.unlink(missing_ok=True)

    def arrive(self, agent: Agent, who: Device = OWNER) -> "Worker":
        answer = sign_in(agent, self.site, who)[1]
        return Worker(Person(agent, self.site, str(answer["session"]), who=who))

    def starts(self) -> list[str]:
        """The ids that were really begun."""
        path = self.folder / "starts"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


@dataclass
class Worker:
    """Somebody who wants jobs done."""

    person: Person

    def post(self, document: Any) -> Reply:
        return self.person.ask("POST", "/v1/jobs", json.dumps(document).encode())

    def run(self, *argv: str, **more: Any) -> str:
        answer = self.post({"kind": "command", "argv": list(argv), **more})
        assert answer.status == 201, answer.body
        return str(answer.document["id"])

    def item(self, name: str) -> Any:
        return self.person.ask("GET", at("/v1/jobs/item", id=name)).document

    def cancel(self, name: str) -> Reply:
        return self.person.ask("POST", "/v1/jobs/cancel", json.dumps({"id": name}).encode())

    def forget(self, name: str) -> Reply:
        return self.person.ask("DELETE", at("/v1/jobs/item", id=name))

    def log(self, name: str, offset: int = 0, **more: str) -> Any:
        return self.person.ask("GET", at("/v1/jobs/log", id=name, offset=str(offset), **more)).document

    def listed(self, **query: str) -> Any:
        return self.person.ask("GET", at("/v1/jobs", **query) if query else "/v1/jobs").document

    def until(self, name: str, *states: str) -> Any:
        found: Any = None

        def there() -> bool:
            nonlocal found
            found = self.item(name)
            return found["state"] in (states or OVER)

        wait_for(there, lambda: found)
        return found

    def output(self, name: str) -> bytes:
        return base64.b64decode(self.log(name)["data"])


def wait_for(there: Callable[[], bool], told: Callable[[], Any] = lambda: None, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until, told()
        time.sleep(0.05)


def enter(shop: Shop, agent: Agent) -> Worker:
    """The owner, on a guest that has just learnt of its members."""
    pin(agent, shop.site, entry(OWNER.key, name="Olga"), entry(MEMBER.key, "member", "Mel"))
    return shop.arrive(agent)
