"""A person at a terminal, with a fake portal and guest on the loopback."""

import getpass
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from client.cli import main
from client.device import DEVICE, KEY_FILE, Device
from tests.client.fake import PASSWORD, Fake, serving
from tests.protocol.people import Device as Somebody


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass
class Person:
    """Somebody who types commands; every one is told to name each request."""

    folder: Path
    portal: str
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    said: list[str] = field(default_factory=list)
    """Everything that was ever printed."""

    def run(self, *words: str, typed: str = "", password: str = PASSWORD) -> Ended:
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        self.monkeypatch.setattr(getpass, "getpass", lambda _prompt: password)
        try:
            status = main(["-v", "--portal", self.portal, "--config", str(self.folder), *words])
        except SystemExit as error:
            status = int(str(error.code))
        ended = Ended(status, *self.capture.readouterr())
        self.said.append(ended.text)
        return ended

    def ok(self, *words: str, **more: str) -> str:
        """The output of a command that must succeed."""
        ended = self.run(*words, **more)
        assert ended.status == 0, ended.text
        return ended.out

    def refused(self, *words: str, **more: str) -> str:
        """What is said by a command that must fail, and no traceback."""
        ended = self.run(*words, **more)
        assert ended.status == 1, ended.text
        assert "Traceback" not in ended.text
        return ended.err

    @property
    def device(self) -> Somebody:
        return Somebody(Device.load(self.folder / KEY_FILE, DEVICE).seed)

    @property
    def pins(self) -> dict[str, dict[str, object]]:
        document = json.loads((self.folder / "pins.json").read_text())
        return dict(document[self.portal])


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    folder = tmp_path / "guest"
    folder.mkdir()
    with serving(folder) as found:
        yield found


@pytest.fixture
def newcomer(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    """Somebody who has a device key, and nothing that anybody knows."""
    found = Person(tmp_path / "config", fake.portal, capsys, monkeypatch)
    found.ok("key", "new", "--name", "Ann's laptop")
    yield found
    # Whatever a test does: no seed, cookie, session, ticket or password is ever printed.
    secrets = {PASSWORD, *fake.users, *fake.routes, *fake.tickets, *fake.sessions._sessions}
    secrets |= {value for asked in fake.asked for value in asked.cookies.values()}
    secrets |= {
        asked.headers[name]
        for asked in fake.asked
        for name in ("portal-proof", "portal-session")
        if name in asked.headers
    }
    files = [*tmp_path.glob("*.json"), found.folder / KEY_FILE]
    secrets |= {json.loads(path.read_text())["seed"] for path in files if path.exists()}
    everything = "".join(found.said)
    assert not [secret for secret in secrets if secret and secret in everything]


@pytest.fixture
def owner(fake: Fake, newcomer: Person, tmp_path: Path) -> Person:
    """Somebody who has made the first keyring."""
    fake.know(newcomer.device.key, "Ann's laptop")
    newcomer.ok("keyring", "init", "acme", "--recovery", str(tmp_path / "recovery.json"), "--yes")
    return newcomer
