"""``key``, the folder it is in, and the portal's address."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from client.cli import main
from client.device import DEVICE, Device
from client.origins import Origin
from tests.client.conftest import Person
from tests.client.fake import Answer, Fake
from tests.protocol.people import Device as Somebody


def test_a_new_key(newcomer: Person) -> None:
    """0700 and 0600; shown are name, public key and fingerprint."""
    path = newcomer.folder / "device-key.json"
    assert newcomer.folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    out = newcomer.ok("key", "show")
    made = newcomer.device.key
    assert (
        out
        == f"name         Ann's laptop\npublic key   {made.public_key.hex()}\nfingerprint  {made.fingerprint}\n"
    )


def test_a_key_is_not_overwritten(newcomer: Person) -> None:
    before = (newcomer.folder / "device-key.json").read_bytes()
    assert "not overwritten" in newcomer.refused("key", "new")
    assert (newcomer.folder / "device-key.json").read_bytes() == before


def test_keys_differ(newcomer: Person, tmp_path: Path) -> None:
    first = newcomer.device
    newcomer.folder = tmp_path / "two"
    newcomer.ok("key", "new")
    assert newcomer.device.seed != first.seed


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(newcomer: Person, fake: Fake, mode: int) -> None:
    path = newcomer.folder / "device-key.json"
    path.chmod(mode)
    for words in (["key", "show"], ["keyring", "show", "acme"], ["workspace", "ls", "acme"]):
        told = newcomer.refused(*words)
        assert f"chmod 600 {path}" in told
    assert fake.asked == []


def test_a_folder_that_others_can_look_into_is_refused(newcomer: Person) -> None:
    newcomer.folder.chmod(0o750)
    assert f"chmod 700 {newcomer.folder}" in newcomer.refused("key", "show")


def test_a_link_a_pipe_and_rubbish_are_no_key(newcomer: Person, tmp_path: Path) -> None:
    path = newcomer.folder / "device-key.json"
    moved = path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(moved)
    assert "cannot be read" in newcomer.refused("key", "show")
    path.unlink()
    os.mkfifo(path, 0o600)
    assert "is not a file" in newcomer.refused("key", "show")
    path.unlink()
    for text in ("", "[]", "{}", '{"use": "device", "name": "x", "seed": "00"}', "[" * 100_000):
        path.write_text(text)
        path.chmod(0o600)
        assert "device-key.json is" in newcomer.refused("key", "show")
    path.unlink()
    assert "key new" in newcomer.refused("key", "show")


def test_registering_asks_for_a_password_once(fake: Fake, newcomer: Person) -> None:
    out = newcomer.ok("key", "register", "acme", typed="owner\n")
    assert newcomer.device.key.fingerprint in out
    assert newcomer.device.key.fingerprint in fake.keys
    assert "before" in newcomer.ok("key", "register", "acme", typed="owner\n")
    newcomer.ok("keyring", "show", "acme")
    assert fake.users == {}, "signed out each time"


def test_a_wrong_password(fake: Fake, newcomer: Person) -> None:
    told = newcomer.refused("key", "register", "acme", typed="owner\n", password="not this one")
    assert "does not know this name with this password" in told
    assert "not this one" not in told
    fake.breaks("POST", "/sign-in/", Answer(403, raw=b"locked"))
    assert "quarter of an hour" in newcomer.refused("key", "register", "acme", typed="owner\n")
    assert "No answer was given" in newcomer.refused("key", "register", "acme")


def test_an_unknown_key_is_told_what_to_do(newcomer: Person) -> None:
    assert "key register TENANT" in newcomer.refused("keyring", "show", "acme")


def test_another_key_in_the_answer_is_noticed(fake: Fake, newcomer: Person) -> None:
    other = Somebody(b"x" * 32).key
    fake.bend(
        "POST",
        "/api/v1/tenants/acme/keys/",
        public_key=other.public_key.hex(),
        fingerprint=other.fingerprint,
    )
    assert "another key" in newcomer.refused("key", "register", "acme", typed="owner\n")


def test_the_address_comes_from_line_environment_or_file(
    fake: Fake, newcomer: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this order; “key new --portal” has remembered it."""
    fake.know(newcomer.device.key)
    words = ["keyring", "show", "acme", "--config", str(newcomer.folder)]
    assert json.loads((newcomer.folder / "config.json").read_text()) == {"portal": fake.portal}
    assert main(words) == 0
    monkeypatch.setenv("PORTAL_URL", "ftp://wrong")
    assert main(words) == 1
    assert main([*words, "--portal", fake.portal]) == 0
    monkeypatch.setenv("PORTAL_URL", fake.portal)
    (newcomer.folder / "config.json").unlink()
    assert main(words) == 0
    monkeypatch.delenv("PORTAL_URL")
    capsys.readouterr()
    assert main(words) == 1
    assert "Which portal?" in capsys.readouterr().err
    (newcomer.folder / "config.json").write_text("{}")
    (newcomer.folder / "config.json").chmod(0o600)
    assert main(words) == 1
    assert "damaged" in capsys.readouterr().err


def test_the_folder_is_below_the_one_for_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert main(["key", "new"]) == 0
    assert (tmp_path / "config" / "managed-host-portal" / "device-key.json").exists()
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["key", "new"]) == 0
    assert (tmp_path / ".config" / "managed-host-portal" / "device-key.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        "http://portal.example.org",
        "http://127.0.0.1:8000",
        "http://localhost.example.org",
        "https://user:word@portal.example.org",
        "https://portal.example.org/there",
        "https://portal.example.org?x",
        "https://",
        "portal.example.org",
        "https://portal.example.org:99999",
        "https://-.org",
        "https://a\nb.org",
    ],
)
def test_addresses_that_are_refused(newcomer: Person, text: str) -> None:
    """Above all http to any other machine: cookies and passwords would be read on the way."""
    newcomer.portal = text
    told = newcomer.refused("keyring", "show", "acme")
    assert "address cannot be used" in told
    assert "word" not in told


def test_local_names_are_this_machine() -> None:
    assert Origin.parse("http://acme.portal.localhost:8000").address == "127.0.0.1"
    assert Origin.parse("https://Portal.example.org/").address == "portal.example.org"
    assert str(Origin.parse("https://portal.example.org:443")) == "https://portal.example.org"


def test_a_seed_is_not_in_a_representation() -> None:
    made = Device.new("x")
    assert made.seed.hex() not in repr(made)
    assert repr(made.seed) not in repr(made)


def test_as_a_program(tmp_path: Path) -> None:
    """A usage error is 2, help is 0, no key is one sentence and 1."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "client", *words], capture_output=True, text=True, timeout=60
        )

    assert run().returncode == 2
    assert run("keyring", "add", "acme", "zz").returncode == 2
    assert "keyring" in run("--help").stdout
    ended = run("key", "show", "--config", str(tmp_path / "none"))
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (1, "", 1)


def test_whatever_happens_there_is_no_traceback(newcomer: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own says its kind only: its text could be anything."""

    def broken(*_: object) -> Device:
        raise ZeroDivisionError("seed 1234")

    monkeypatch.setattr(Device, "load", broken)
    told = newcomer.refused("key", "show")
    assert "ZeroDivisionError" in told
    assert "1234" not in told


def test_ctrl_c(newcomer: Person, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: no sign-out, no traceback."""
    fake.know(newcomer.device.key)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.portal.Portal.overview", interrupted)
    ended = newcomer.run("keyring", "show", "acme")
    assert (ended.status, ended.err.splitlines()[-1]) == (130, "Stopped.")
    assert not [asked for asked in fake.asked if asked.path == "/sign-out/"]


def test_a_key_file_round(tmp_path: Path) -> None:
    made = Device.new("x")
    made.save(tmp_path / "k", DEVICE)
    assert Device.load(tmp_path / "k", DEVICE) == made
