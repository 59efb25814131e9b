"""Running programs: progress while they work, a clear stop when they fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.portalctl import commands, terminal
from deploy.portalctl.places import CHECKOUT
from deploy.portalctl.terminal import Stop
from deploy.portalctl.up import engine_of


def test_a_long_step_says_that_it_is_still_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "HEARTBEAT_SECONDS", 0.1)
    commands.logged("stage", ["sh", "-c", "echo unpacking; sleep 0.4"], tmp_path / "log")
    assert "stage: still at work" in capsys.readouterr().out


def test_a_failed_step_names_its_log_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Stop) as failure:
        commands.logged("stage", ["sh", "-c", "echo the reason; exit 3"], tmp_path / "log", todo="mend it")
    terminal.explain("up", failure.value)
    said = capsys.readouterr().err
    assert "code 3" in said
    assert "the reason" in said
    assert str(tmp_path / "log") in said
    assert "mend it" in said


def test_a_missing_program_is_no_answer_and_no_traceback() -> None:
    assert not commands.answers(["no-such-program-anywhere"])
    with pytest.raises(Stop, match="did not run"):
        commands.output(["no-such-program-anywhere"])


def test_streamed_output_is_shown_and_returned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.streamed(["sh", "-c", "echo one; exit 4"], cwd=tmp_path) == (4, "one\n")
    assert capsys.readouterr().out == "one\n"


def test_sudo_keeps_our_settings_and_not_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "is_root", lambda: False)
    monkeypatch.setattr(os, "environ", {"PORTAL_PORT": "1", "REDIS_URL": "r", "TOKEN": "secret"})
    assert commands.as_root(["id"]) == ["sudo", "--preserve-env=PORTAL_PORT,REDIS_URL", "id"]


def test_without_root_and_sudo_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "is_root", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(Stop, match="no sudo"):
        commands.become_root(["id"], why="packages")


@pytest.mark.parametrize(
    ("said", "engine"),
    [
        ("host local: engine kvm\n", "kvm"),
        ("engine: test (no KVM, no QEMU)", "test"),
        ("engine=qemu", "qemu"),
        ("nothing", "qemu"),
    ],
)
def test_the_engine_is_read_from_what_host_register_says(said: str, engine: str) -> None:
    assert engine_of(said) == engine


def test_an_unknown_command_is_refused() -> None:
    argv = [sys.executable, "-m", "deploy.portalctl", "upp"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "make help" in done.stderr


def test_bare_make_prints_the_help() -> None:
    done = subprocess.run(["make"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    for target in ("up", "down", "clean", "test", "bench", "logs"):
        assert f"make {target} " in done.stdout
