"""Who may reach less loses open tunnels, whatever stands in the way of that."""

import os
from collections.abc import Callable

import pytest

from provisioning.egress import system
from tests.egress.test_keeper import echoes, opened
from tests.egress.world import ALICE, API, BOB, KeeperProcess, World, connect, fetch, wait_for

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
