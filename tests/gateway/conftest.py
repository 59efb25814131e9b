"""A real agent process with a launcher and a gateway behind it, and members in front."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protocol.persons import PersonKey, Purpose
from tests.gateway.fake_launcher import Launcher, launching
from tests.guest.conftest import Site
from tests.guest.files import Person, Reply
from tests.guest.fleet import LIMITS, TENANT_ID, Agent, Authority, caller, personalise, running
from tests.guest.test_gate import call, pin, sign_in
from tests.protocol.people import MEMBER, OWNER, entry

CHAT = "/gateway-api/v1/chat/completions"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@dataclass
class Stage:
    """All of it; ``person`` is an owner."""

    agent: Agent
    site: Site
    launcher: Launcher
    person: Person
    port: int
    rehearsal_port: int
    consents: int = 0

    def agree(self, agents: bool = True, always_on: bool = False) -> None:
        self.consents += 1
        document = {
            "version": self.consents,
            "tenant_id": TENANT_ID,
            "agents": agents,
            "always_on": always_on,
        }
        body = {"document": document, "signature": OWNER.sign(Purpose.CONSENT, document)}
        status, answer = call(self.agent, self.site, "PUT", "/v1/consents", body)
        assert status == 200, answer

    def suspend(self, suspended: bool = True) -> None:
        assert call(self.agent, self.site, "PUT", "/v1/suspended", {"suspended": suspended})[0] == 200

    def told(self) -> dict[str, Any]:
        reply = self.person.ask("GET", "/v1/gateway")
        assert reply.status == 200, reply.body
        return dict(reply.document)

    def state(self) -> str:
        """As the portal hears it, whoever has signed in."""
        return str(call(self.agent, self.site, "GET", "/v1/status")[1]["gateway"]["state"])

    def until(self, state: str, seconds: float = 20.0) -> None:
        wait_for(lambda: self.state() == state, seconds)

    def start(self) -> None:
        """Agreed to, started, ready."""
        self.agree()
        begun = self.person.ask("POST", "/v1/gateway/start")
        assert begun.status == 202, begun.body
        self.until("ready")

    def get(self, path: str, **more: str) -> Reply:
        return self.person.ask("GET", path, b"", **more)

    def another(self, device: Any = MEMBER) -> Person:
        return Person(
            self.agent, self.site, str(sign_in(self.agent, self.site, device)[1]["session"]), who=device
        )


def wait_for(met: Callable[[], object], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@contextmanager
def staged(folder: Path, *more: str, laptop: PersonKey | None = None, **limits: int) -> Iterator[Stage]:
    """A stage whose plan has ``limits``, and whose agent has ``more`` arguments. ``laptop``: an owner's passkey."""
    authority = Authority()
    site = Site(
        folder,
        authority,
        caller(folder, "control-plane", authority),
        personalise(folder, authority, limits=replace(LIMITS, **{"memory_mib": 2048, **limits})),
        folder / "data",
    )
    (folder / "workspace").mkdir(exist_ok=True)
    port, rehearsal = free_port(), free_port()
    with launching(folder) as launcher:
        arguments = ["--launcher", str(launcher.path), "--gateway-socket", str(launcher.secrets)]
        arguments += ["--gateway-port", str(port), "--rehearsal-port", str(rehearsal)]
        arguments += ["--gateway-user", str(os.getuid()), "--gateway-look", "0.3", "--gateway-timeout", "20"]
        with running(
            site.personalisation, site.data, *arguments, "--gateway-pauses", "0.2", "0.2", *more
        ) as agent:
            known = [entry(OWNER.key), entry(MEMBER.key, "member")]
            pin(agent, site, *known, *([entry(laptop)] if laptop else []))
            person = Person(agent, site, str(sign_in(agent, site)[1]["session"]))
            yield Stage(agent, site, launcher, person, port, rehearsal)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as made:
        yield made
