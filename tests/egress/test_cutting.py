"""Who may reach less loses open tunnels, whatever stands in the way of that."""

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioning.egress import system
from provisioning.egress.keeper import Keeper, KeeperOptions
from provisioning.egress.server import NotConfirmed
from tests.egress.test_keeper import echoes, opened
from tests.egress.world import (
    ALICE,
    API,
    BOB,
    FLEET,
    PORT,
    SITE,
    KeeperProcess,
    World,
    connect,
    fetch,
    wait_for,
)

Make = Callable[..., KeeperProcess]
_SS = {
    "kills nothing": 'case "$*" in *--kill*) exit 0;; *) exec /usr/bin/ss "$@";; esac',
    "cannot kill": 'case "$*" in *--kill*) exit 1;; *) exec /usr/bin/ss "$@";; esac',
    "does nothing at all": "exit 1",
}


@pytest.mark.parametrize("ss", _SS)
def test_where_single_tunnels_cannot_be_cut_all_are(world: World, make_keeper: Make, ss: str) -> None:
    """Squid is ended with all that it held, and started anew under the new rules."""
    keeper = make_keeper()
    programs = keeper.run.parent / "bin"
    programs.mkdir()
    (programs / "ss").write_text(f"#!/bin/sh\n{_SS[ss]}\n")
    for path in (programs, programs / "ss"):
        path.chmod(0o755)
    keeper.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    keeper.start()
    keeper.obey(ALICE.rules(API), BOB.rules(API))
    line, before = opened(world), keeper.squid()
    keeper.obey(ALICE.rules(), BOB.rules(API))
    assert not echoes(line)
    wait_for("all is well", lambda: keeper.state()["ok"])
    assert keeper.squid() not in {before, None}
    assert connect(world, ALICE, f"{API}:443").status == 403
    assert fetch(world, BOB, API) == b"hello\n"


@pytest.mark.parametrize(("after", "gone"), [("sk:a1", False), ("sk:a2", True), ("", True)])
def test_only_what_was_open_before_is_left_over(
    monkeypatch: pytest.MonkeyPatch, after: str, gone: bool
) -> None:
    """Else a guest that connects all the time, from one port too, would have Squid ended for everybody."""
    answers = iter(["ESTAB 0 0 10.99.0.1:3128 10.99.0.2:4000 sk:a1 <->", "", f"… 10.99.0.2:4000 {after} <->"])
    monkeypatch.setattr(system, "_run", lambda argv, **more: next(answers))
    assert system.cut("10.99.0.1", 3128) is gone


class Squatter:
    """Takes the port at which Squid tells its configuration, as any program of the host may while Squid reloads."""

    def __init__(self, world: World, keeper: KeeperProcess) -> None:
        self.port = int(written(keeper, r"http_port 127\.0\.0\.1:(\d+) name=keeper"))
        self.mark = written(keeper, r'Egress-Mark "(.*)"')
        self._line = world.socket("h")
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._ended, self.there = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._squat)

    def __enter__(self) -> "Squatter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._line.close()

    def _squat(self) -> None:
        while not self._ended.is_set() and not self.there.is_set():
            with contextlib.suppress(OSError):
                self._line.bind(("127.0.0.1", self.port))
                self._line.listen()
                self._line.settimeout(0.2)
                self.there.set()
        while not self._ended.is_set():
            with contextlib.suppress(OSError), self._line.accept()[0] as asked:
                asked.recv(1000)
                asked.sendall(f"HTTP/1.1 403 no\r\nEgress-Mark: {self.mark}\r\n\r\n".encode())


def written(keeper: KeeperProcess, pattern: str) -> str:
    found = re.search(pattern, (keeper.run / "squid.conf").read_text())
    assert found
    return found[1]


def test_who_takes_the_keepers_port_neither_answers_for_squid_nor_keeps_tunnels_open(
    world: World, keeper: KeeperProcess
) -> None:
    keeper.obey(ALICE.rules(API), BOB.rules())
    line = opened(world)
    with Squatter(world, keeper) as squatter:
        for number in range(2, 100):  # each is a reload, at which the port is free for a moment
            if squatter.there.wait(1):
                break
            keeper.put(ALICE.rules(API), BOB.rules(*[API, SITE][: number % 2 + 1]))
        assert squatter.there.is_set()
        wanted = keeper.put(ALICE.rules(), BOB.rules())
        wait_for("the tunnel is cut", lambda: not echoes(line), 40)
        wait_for("it asks elsewhere", lambda: keeper.state()["generation"] == wanted, 40)
    assert keeper.state()["ok"]
    assert connect(world, ALICE, f"{API}:443").status == 403


def test_nobody_guesses_by_what_squid_is_known(keeper: KeeperProcess) -> None:
    seen = set()
    for hosts in ([API], [SITE]):
        keeper.obey(ALICE.rules(*hosts))
        generation, _, secret = written(keeper, r'Egress-Mark "(.*)"').partition("-")
        assert generation == str(keeper.generation)
        assert len(secret) == 32
        seen.add(secret)
    assert len(seen) == 2
    assert (keeper.run / "squid.conf").stat().st_mode & 0o007 == keeper.run.stat().st_mode & 0o007 == 0


def test_a_squid_that_never_confirms_has_its_tunnels_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cutting too early costs a guest a new connection; cutting never would leave a way out."""
    options = KeeperOptions(FLEET, tmp_path, tmp_path, ("203.0.113.1",), PORT, 8443, 4096, ipv4_only=True)
    kept = Keeper(options)
    cut: list[str] = []
    monkeypatch.setattr(system, "cut", lambda address, port: not cut.append(address))  # type: ignore[func-returns-value]
    monkeypatch.setattr(kept._server, "_confirm", _never)
    monkeypatch.setattr(kept._server, "_start", lambda: None)
    kept._to_cut = [ALICE.rules(API)]
    before = kept._proxy.keeper_port
    for _ in range(2):
        with pytest.raises(NotConfirmed):
            kept._change_over((), "1-mark")
    assert cut == [ALICE.listen] * 2
    assert kept._proxy.keeper_port == kept._server.keeper_port != before


def _never(mark: str) -> None:
    raise NotConfirmed("never")
