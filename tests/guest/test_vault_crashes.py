"""The vault after a stop at any instant: the old state or the new one, all of it readable, nothing left about."""

import errno
import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guest.agent.vault import Vault
from guest.agent.vault_requests import VaultRefused
from tests.guest.boxes import NAME, boxed, opened, put, refusal
from tests.guest.conftest import Site
from tests.guest.crashes import Recorder, lay_out, recorded
from tests.guest.fleet import Agent, running
from tests.guest.test_gate import call

OTHER = b"another value"


def prepared(folder: Path, *, rotated: bool) -> Vault:
    """Two secrets and a tombstone; with ``rotated`` under the second key, the first one waiting for its end."""
    vault = opened(folder)
    put(vault, boxed(vault.sealing_public))
    put(vault, boxed(vault.sealing_public, OTHER, "OTHER", 3))
    vault.revoke("GONE", 2)
    if rotated:
        vault.rotate(current(vault))
    return vault


def current(vault: Vault) -> str:
    return str(vault.statement()["sealing"]["current"]["id"])


def previous(vault: Vault) -> str:
    return str(vault.statement()["sealing"]["previous"]["id"])


def values(vault: Vault) -> dict[str, bytes]:
    held = [each["name"] for each in vault.statement()["secrets"] if each["state"] == "held"]
    return {name: vault.open_secret(name) for name in held}


def expected_files(vault: Vault) -> set[str]:
    sealing = vault.statement()["sealing"]
    keys = {f"sealing-{each['id']}.key" for each in sealing.values() if each}
    return {"tls.key", "vault.json"} | keys


DEEDS: dict[str, tuple[bool, Callable[[Vault], Any]]] = {
    "deliver the first": (False, lambda vault: put(vault, boxed(vault.sealing_public, name="NEW"))),
    "deliver a newer": (False, lambda vault: put(vault, boxed(vault.sealing_public, b"newer", version=2))),
    "deliver to the previous key": (
        True,
        lambda vault: put(
            vault, boxed(bytes.fromhex(vault.statement()["sealing"]["previous"]["public_key"]), name="LATE")
        ),
    ),
    "revoke": (False, lambda vault: vault.revoke(NAME, 1)),
    "revoke the unknown": (True, lambda vault: vault.revoke("UNKNOWN", 1)),
    "rotate": (False, lambda vault: vault.rotate(current(vault))),
    "retire": (True, lambda vault: vault.retire(previous(vault))),
}


@pytest.mark.parametrize("name", DEEDS)
def test_a_stop_at_any_instant(tmp_path: Path, name: str) -> None:
    """One of the two states, whole; and the next start removes what the stop left."""
    rotated, deed = DEEDS[name]
    vault = prepared(tmp_path / "data", rotated=rotated)
    old = vault.statement(), values(vault)
    recording = recorded(tmp_path / "data", lambda: deed(vault))
    new = vault.statement(), values(vault)
    assert old != new
    seen = []
    for files in recording.states():
        again = opened(lay_out(tmp_path / "after", files))
        state = again.statement(), values(again)
        assert state in (old, new), sorted(files)
        seen.append(state == new)
        assert {path.name for path in (tmp_path / "after").iterdir()} == expected_files(again), sorted(files)
    assert set(seen) == {True, False}, "the change was seen to happen"
    assert len(seen) > 10
    assert recording.freed_in_clear() == 0


@pytest.mark.parametrize("rotated", [False, True])
def test_a_stop_of_the_start_after_a_stop(tmp_path: Path, rotated: bool) -> None:
    """The start that tidies up may itself be stopped at any instant, and so may the one after it."""
    name = "retire" if rotated else "rotate"
    vault = prepared(tmp_path / "data", rotated=rotated)
    old = vault.statement(), values(vault)
    first = recorded(tmp_path / "data", lambda: DEEDS[name][1](vault))
    new = vault.statement(), values(vault)
    leftovers = 0
    for files in first.states():
        second = recorded(lay_out(tmp_path / "second", files), lambda: opened(tmp_path / "second"))
        assert second.freed_in_clear() == 0
        leftovers += bool(second.log)
        for state in second.states():
            again = opened(lay_out(tmp_path / "third", state))
            assert (again.statement(), values(again)) in (old, new)
    assert leftovers > 5


@pytest.mark.parametrize("before", [False, True])
def test_a_stop_of_the_first_start(tmp_path: Path, before: bool) -> None:
    """Also of the one that finds a guest from before the vault: whatever is left, the next start goes on with."""
    folder = tmp_path / "data"
    opened(folder)
    tls = {"tls.key": (0, (folder / "tls.key").read_bytes())}
    key = {"sealing.key": (1, bytes(range(32)))} if before else {}
    recording = recorded(lay_out(folder, tls | key), lambda: opened(folder))
    public = opened(folder).sealing_public
    seen = set()
    for files in recording.states():
        again = opened(lay_out(tmp_path / "after", files))
        seen.add(again.sealing_public == public)
        assert {path.name for path in (tmp_path / "after").iterdir()} == expected_files(again)
        assert opened(tmp_path / "after").statement() == again.statement()
    assert seen == {True} if before else {True, False}
    assert recording.freed_in_clear() == 0


@pytest.mark.parametrize("name", DEEDS)
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_an_error_at_any_operation(tmp_path: Path, name: str, error: int) -> None:
    """The agent that met it goes on, the same call does it after all, and a stop in between loses nothing."""
    rotated, deed = DEEDS[name]
    prepared(tmp_path / "whole", rotated=rotated)
    number, failed = 0, True
    while failed:
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "data")
        vault = opened(tmp_path / "data")
        old, again = values(vault), dict(vault.statement()["sealing"])
        recorder = Recorder(tmp_path / "data", number, error)
        with recorder.at_work(), suppress(OSError, VaultRefused):
            deed(vault)
        number, failed = number + 1, recorder.failed
        assert values(vault) == old or name in {"revoke", "retire"} or not failed
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "data", tmp_path / "copy")
        assert values(opened(tmp_path / "copy")).keys() >= old.keys() - {NAME}
        if failed:
            vault.retire(again["previous"]["id"]) if name == "retire" else deed(vault)
        assert {path.name for path in (tmp_path / "data").iterdir()} == expected_files(vault), (
            "nothing is left"
        )
        restarted = opened(tmp_path / "data")
        assert (restarted.statement(), values(restarted)) == (vault.statement(), values(vault))
    assert number > 8


def test_a_full_disk_has_its_own_code(tmp_path: Path) -> None:
    vault = opened(tmp_path)
    for deed in (DEEDS["deliver the first"][1], DEEDS["rotate"][1]):
        with Recorder(tmp_path, 1, errno.ENOSPC).at_work():
            assert refusal(deed, vault) == "disk_full"
        deed(vault)


def test_an_error_then_another_call(tmp_path: Path) -> None:
    """After a rotation that failed, whatever it left on the disk, no call destroys a key that a restart needs."""
    prepared(tmp_path / "whole", rotated=False)
    number, failed = 0, True
    while failed:
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "data")
        vault = opened(tmp_path / "data")
        recorder = Recorder(tmp_path / "data", number)
        with recorder.at_work(), suppress(OSError):
            vault.rotate(current(vault))
        number, failed = number + 1, recorder.failed
        for files in recorded(tmp_path / "data", partial(vault.retire, "00" * 8)).states():
            assert values(opened(lay_out(tmp_path / "after", files))) == values(vault)
    assert number > 20


@settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
class Life(RuleBasedStateMachine):
    """Any calls in any order, each of them perhaps stopped at some instant, and the start after it too."""

    stops = st.one_of(st.none(), st.integers(0, 10_000))

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp())
        self.vault = opened(self.folder)
        self.model: dict[str, tuple[int, bytes | None]] = {}
        self.sent: list[dict[str, Any]] = []
        self.taken: list[dict[str, Any]] = []
        self.held: dict[str, dict[str, Any]] = {}
        self.retired: set[bytes] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def do(self, deed: Callable[[], Any], stop: int | None, **changed: tuple[int, bytes | None]) -> str:
        """Do it, then perhaps be stopped somewhere in it: the code, if it was refused."""
        said: list[str] = []
        recording = recorded(self.folder, lambda: said.append(refusal(deed)))
        assert recording.freed_in_clear() == 0
        wanted = self.model | (changed if said == ["done"] else {})
        if stop is None:
            self.model = wanted
            return said[0]
        states = recording.states()
        lay_out(self.folder, states[stop % len(states)])
        self.restart(stop // len(states))
        found = self.told()
        assert found in (self.model, wanted)
        self.model = found
        return "stopped"

    def told(self) -> dict[str, tuple[int, bytes | None]]:
        held = values(self.vault)
        return {
            each["name"]: (each["version"], held.get(each["name"]))
            for each in self.vault.statement()["secrets"]
        }

    @rule(stop=stops)
    def restart(self, stop: int | None) -> None:
        recording = recorded(self.folder, lambda: opened(self.folder))
        assert recording.freed_in_clear() == 0
        if stop is not None:
            states = recording.states()
            lay_out(self.folder, states[stop % len(states)])
        self.vault = opened(self.folder)

    @rule(
        name=st.sampled_from(["A", "B", "C"]),
        version=st.integers(1, 6),
        value=st.binary(max_size=40),
        late=st.booleans(),
        stop=stops,
    )
    def deliver(self, name: str, version: int, value: bytes, late: bool, stop: int | None) -> None:
        sealing = self.vault.statement()["sealing"]
        key = (late and sealing["previous"]) or sealing["current"]
        body = boxed(bytes.fromhex(key["public_key"]), value, name, version)
        self.sent.append(body)
        newer = version > self.model.get(name, (0, None))[0]
        said = self.do(lambda: put(self.vault, body), stop, **{name: (version, value)})
        assert said in {"done" if newer else "rolled_back", "stopped"}
        if newer and self.model.get(name) == (version, value):
            self.taken.append(body)
            self.held[name] = body

    @rule(name=st.sampled_from(["A", "B", "C"]), version=st.integers(1, 6), stop=stops)
    def revoke(self, name: str, version: int, stop: int | None) -> None:
        known = self.model.get(name, (0, None))[0]
        said = self.do(lambda: self.vault.revoke(name, version), stop, **{name: (version, None)})
        assert said in {"done" if version >= known else "rolled_back", "stopped"}

    @rule(stop=stops)
    def rotate(self, stop: int | None) -> None:
        before = self.vault.statement()["sealing"]
        said = self.do(lambda: self.vault.rotate(before["current"]["id"]), stop)
        assert said in {"rotation_unfinished" if before["previous"] else "done", "stopped"}
        self.vault.rotate(before["current"]["id"]) if said == "done" else None

    @rule(stop=stops)
    def retire(self, stop: int | None) -> None:
        sealing = self.vault.statement()["sealing"]
        if sealing["previous"] is None:
            return
        name = sealing["previous"]["id"]
        private = (self.folder / f"sealing-{name}.key").read_bytes()
        self.do(lambda: self.vault.retire(name), stop)
        if self.vault.statement()["sealing"]["previous"] is None:
            self.retired.add(private)

    @rule(data=st.data(), stop=stops)
    def replay(self, data: st.DataObject, stop: int | None) -> None:
        """Whatever was sent before comes again: it changes nothing."""
        if self.sent:
            body = data.draw(st.sampled_from(self.sent))
            before = self.vault.statement()
            newer = body["version"] > self.model.get(body["name"], (0, None))[0]
            if not newer:
                self.do(lambda: put(self.vault, body), stop)
                assert self.vault.statement() == before

    @rule(data=st.data(), name=st.sampled_from(["A", "B", "C", "D"]), stop=stops)
    def misdeliver(self, data: st.DataObject, name: str, stop: int | None) -> None:
        """What was taken under one name is refused under every other, and so is what was replaced."""
        if self.taken:
            body = data.draw(st.sampled_from(self.taken))
            version = self.model.get(name, (0, None))[0] + 1
            if name != body["name"] or self.held.get(name) is not body:
                self.do(lambda: put(self.vault, body | {"name": name, "version": version}), stop)
                assert self.model.get(name, (0, None))[0] == version - 1

    @rule(name=st.sampled_from(["A", "B", "C"]), stop=stops)
    def export(self, name: str, stop: int | None) -> None:
        """The exported box is what is held, and comes back as the same."""
        if self.model.get(name, (0, None))[1] is None:
            assert refusal(self.vault.export, name) == "no_such_secret"
        else:
            assert self.do(lambda: put(self.vault, self.vault.export(name)), stop) in {"done", "stopped"}

    @invariant()
    def whole(self) -> None:
        """What was acknowledged is there and opens; the folder has these files; no retired key is in one."""
        assert self.told() == self.model
        files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        assert files.keys() == expected_files(self.vault)
        assert len(files) <= 4
        assert not self.retired & set(files.values())


TestLife = Life.TestCase


def test_killed_while_rotating(site: Site) -> None:
    """A real agent, killed at random while keys change and versions rise: it starts again, and lost nothing."""
    dice, version = random.Random(), 0  # noqa: S311

    def ask(agent: Agent, method: str, path: str, body: Any = None) -> Any:
        while (said := call(agent, site, method, path, body))[0] == 429:
            time.sleep(0.05)
        return said[1]

    for _ in range(6):
        with running(site.personalisation, site.data) as agent:
            killer = threading.Timer(dice.uniform(0.3, 1.2), agent.process.kill)
            killer.start()
            with suppress(OSError, HTTPException):
                while True:
                    sealing = ask(agent, "GET", "/v1/secrets")["sealing"]
                    key = bytes.fromhex(sealing["current"]["public_key"])
                    body = boxed(key, b"%d" % (version + 1), version=version + 1)
                    assert ask(agent, "PUT", "/v1/secrets", body)["state"] == "held"
                    version += 1
                    old = sealing["previous"] or sealing["current"]
                    ask(agent, "POST", "/v1/sealing-key/rotate", {"from": old["id"]})
                    ask(agent, "POST", "/v1/sealing-key/retire", {"id": old["id"]})
            killer.join()
            agent.process.wait(timeout=5)
        shutil.rmtree(site.folder / "copy", ignore_errors=True)
        shutil.copytree(site.data, site.folder / "copy")
        vault = opened(site.folder / "copy")
        held = {each["version"] for each in vault.statement()["secrets"]} or {0}
        assert held <= {version, version + 1}, "what was acknowledged, or the one that was on its way"
        (version,) = held
        assert version == 0 or vault.open_secret(NAME) == b"%d" % version
    assert version > 3
