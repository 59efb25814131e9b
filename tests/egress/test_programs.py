"""The programs that the keeper runs: what their ends mean, and with which rights they run."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioning.egress import system
from tests.egress.world import ALICE, API, KeeperProcess

Make = Callable[..., KeeperProcess]


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("ends", ["kill -KILL $$", "exit 126", "exit 127"])
def test_a_squid_that_was_ended_has_refused_nothing(tmp_path: Path, ends: str) -> None:
    """A refusal is for good; this passes by itself."""
    with pytest.raises(system.ProgramFailed) as failed:
        system.check_configuration(str(script(tmp_path / "squid", ends)), tmp_path / "candidate.conf")
    assert type(failed.value) is system.ProgramFailed
    assert "squid did not run to its end" in str(failed.value)


def test_a_squid_that_is_not_there_has_refused_nothing(tmp_path: Path) -> None:
    with pytest.raises(system.ProgramFailed) as failed:
        system.check_configuration(str(tmp_path / "none"), tmp_path / "candidate.conf")
    assert type(failed.value) is system.ProgramFailed


def test_what_squid_does_not_understand_it_refuses(tmp_path: Path) -> None:
    squid = script(tmp_path / "squid", "echo '2026| FATAL: Bungled line 3' >&2; exit 1")
    with pytest.raises(system.Rejected, match=r"squid: .*Bungled"):
        system.check_configuration(str(squid), tmp_path / "candidate.conf")


def test_squid_reads_a_candidate_with_none_of_the_keepers_rights(make_keeper: Make) -> None:
    keeper = make_keeper()
    programs = keeper.run.parent / "bin"
    programs.mkdir()
    programs.chmod(0o755)
    seen = keeper.run / "seen"
    script(
        programs / "squid",
        f'case "$*" in *parse*) cat /proc/self/status > {seen};; esac\nexec /usr/sbin/squid "$@"',
    )
    keeper.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    keeper.start()
    keeper.obey(ALICE.rules(API))
    status = dict(line.split(":\t", 1) for line in seen.read_text().splitlines() if ":\t" in line)
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_a_squid_of_somebody_else_is_not_in_the_way(make_keeper: Make) -> None:
    """Squid's shared memory is named after its service, and what another user's has left cannot be taken over."""
    theirs = Path("/dev/shm/squid-cf__metadata.shm")  # noqa: S108 - where Squid has it
    ours = not theirs.exists()
    theirs.touch(0o600)
    try:
        keeper = make_keeper()
        keeper.start()
        keeper.obey(ALICE.rules(API))
    finally:
        if ours:
            theirs.unlink()
