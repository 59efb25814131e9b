"""The launcher: what it refuses, whom it answers, how it starts a job, and how a log stays bounded."""

import json
import os
import socket
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from guest.launcher import journal, units
from guest.launcher.__main__ import answer, serve_one
from guest.launcher.units import command
from guest.launcher.way_out import WayOut
from guest.launcher.wire import LINE_LIMIT, LOGGED, Gateway, Job, Refused, parse

ID = "6a1c3f1e-0d1b-4a55-9c1f-2f6f6f0f9a01"
GOOD = {
    "verb": "job_start",
    "id": ID,
    "argv": ["echo", "$HOME", "--uid=root"],
    "memory_bytes": 64 << 20,
    "tasks": 32,
    "seconds": 60,
    "cpu_weight": 100,
    "log_bytes": 4096,
}


class Recorder:
    """A backend that only notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def start(self, job: Job) -> None:
        self.asked.append(job)

    def status(self, job: str) -> dict[str, Any]:
        self.asked.append(job)
        return {"state": "running"}

    def stop(self, job: str) -> None:
        self.asked.append(job)

    def kill(self, job: str) -> None:
        self.asked.append(job)

    def forget(self, job: str) -> None:
        self.asked.append(job)

    def gateway_start(self, gateway: Gateway) -> None:
        self.asked.append(gateway)

    def gateway_status(self) -> dict[str, Any]:
        self.asked.append("gateway")
        return {"state": "off"}

    def gateway_stop(self) -> None:
        self.asked.append("gateway")

    def journal(self, of: str) -> dict[str, Any]:
        self.asked.append(of)
        return {"text": ""}


BAD: list[Any] = [
    [],
    {"verb": "job_start"},
    {"verb": "job_stop", "id": "../../etc"},
    {"verb": "job_stop", "id": ID + "\n"},
    {"verb": "reboot", "id": ID},
    {"verb": "job_kill", "id": "*"},
    {"verb": "journal", "of": "ssh"},
    {"verb": "journal", "of": ["agent"]},
    {"verb": "journal", "id": ID},
    {"verb": ["job_stop"], "id": ID},
    GOOD | {"more": 1},
    GOOD | {"id": ID.upper()},
    GOOD | {"argv": "echo"},
    GOOD | {"argv": []},
    GOOD | {"argv": [""]},
    GOOD | {"argv": ["A=1"]},
    GOOD | {"argv": ["a\0b"]},
    GOOD | {"argv": ["a", 1]},
    GOOD | {"argv": ["\ud800"]},
    GOOD | {"argv": ["a"] * 257},
    GOOD | {"argv": ["a" * (32 << 10)]},
    GOOD | {"seconds": True},
    GOOD | {"seconds": 0},
    GOOD | {"tasks": 10**9},
    GOOD | {"memory_bytes": 1.5},
]


@pytest.mark.parametrize("document", BAD)
def test_what_is_malformed_is_refused(document: Any) -> None:
    backend = Recorder()
    assert answer(backend, json.dumps(document).encode())["ok"] is False
    assert backend.asked == []


@pytest.mark.parametrize("line", [b"", b"{", b"\xff", b"[" * 60_000])
def test_what_is_no_json_is_refused(line: bytes) -> None:
    assert answer(Recorder(), line)["ok"] is False


def test_the_command_has_the_tenants_words_last_and_literally() -> None:
    """Options of the tenant's are no options of systemd-run, and systemd fills in no variable."""
    _, job = parse(json.dumps(GOOD).encode())
    assert isinstance(job, Job)
    line = command(job, None)
    assert line[-3:] == ["echo", "$$HOME", "--uid=root"]
    before = line[: line.index("--")]
    assert {"--uid=tenant", "--gid=workspace", "--property=NoNewPrivileges=yes"} <= set(before)
    assert {"--property=MemoryMax=67108864", "--property=TasksMax=32", "--property=RuntimeMaxSec=60"} <= set(
        before
    )
    assert "--property=CapabilityBoundingSet=" in before
    hidden = next(each for each in before if "InaccessiblePaths" in each)
    assert all(path in hidden for path in ("/run/portal", "/var/lib/portal/agent", "/var/lib/portal/gateway"))


def environment_of(line: list[str]) -> dict[str, str]:
    before = line[: line.index("--")]
    given = [each.removeprefix("--setenv=") for each in before if each.startswith("--setenv=")]
    return dict(each.split("=", 1) for each in given)


def test_a_job_is_told_the_way_out() -> None:
    """The proxy and nothing else of the launcher's own environment; without one nothing."""
    _, job = parse(json.dumps(GOOD).encode())
    assert isinstance(job, Job)
    out = WayOut("10.1.2.1", 3128)
    without = environment_of(command(job, None))
    assert environment_of(command(job, out)) == without | out.environment
    assert not [name for name in without if "proxy" in name.lower()]
    assert command(job, out)[-3:] == command(job, None)[-3:]


def test_a_job_reaches_no_loopback_whatever_the_way_out() -> None:
    _, job = parse(json.dumps(GOOD).encode())
    assert isinstance(job, Job)
    for out in (None, WayOut("10.1.2.1", 3128)):
        addresses = [each for each in command(job, out) if "IPAddress" in each]
        assert addresses == ["--property=IPAddressDeny=localhost"]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What systemd would have been asked; it says yes unless there is a file called refuse."""
    lines: list[list[str]] = []

    def run(line: list[str], **_more: Any) -> "subprocess.CompletedProcess[str]":
        lines.append(line)
        return subprocess.CompletedProcess(line, int((tmp_path / "refuse").exists()), "inactive\n")

    monkeypatch.setattr(units, "JOBS", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    return lines


def test_a_job_is_started_once(asked: list[list[str]], tmp_path: Path) -> None:
    """Asked again, nothing more happens; what systemd refused may be asked again."""
    _, job = parse(json.dumps(GOOD).encode())
    assert isinstance(job, Job)
    (tmp_path / "refuse").touch()
    with pytest.raises(Refused, match="did not take"):
        units.Units().start(job)
    (tmp_path / "refuse").unlink()
    for _ in range(3):
        units.Units().start(job)
    assert len(asked) == 2


def test_nothing_is_left_of_a_forgotten_job(asked: list[list[str]], tmp_path: Path) -> None:
    """Nor of a result that a full volume cut short; other jobs' files stay."""
    for name in (f"{ID}.log", f"{ID}.json", f"{ID}.json.new", "other.log"):
        (tmp_path / name).touch()
    units.Units().forget(ID)
    units.Units().forget(ID)
    assert [path.name for path in tmp_path.iterdir()] == ["other.log"]


def test_a_systemd_that_does_not_answer_knows_of_no_end(asked: list[list[str]], tmp_path: Path) -> None:
    """Only where it has answered is a job known to be over, or unknown."""
    assert units.Units().status(ID) == {"state": "unknown"}
    (tmp_path / "refuse").touch()
    with pytest.raises(Refused, match="does not answer"):
        units.Units().status(ID)
    assert all(line[0] == "/usr/bin/systemctl" for line in asked)


@pytest.mark.parametrize(("uid", "welcome"), [(os.getuid(), True), (os.getuid() + 1, False)])
def test_only_the_agents_user_is_answered(uid: int, welcome: bool) -> None:
    ours, theirs = socket.socketpair()
    backend = Recorder()
    with ours, theirs:
        theirs.sendall(json.dumps({"verb": "job_status", "id": ID}).encode() + b"\n")
        serve_one(ours, backend, uid)
        assert json.loads(theirs.recv(4096))["ok"] is welcome
    assert bool(backend.asked) is welcome


def test_an_overlong_line_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.sendall(b" " * (LINE_LIMIT + 1))
        serve_one(ours, Recorder(), os.getuid())
        assert json.loads(theirs.recv(4096))["ok"] is False


def run(limit: int, *argv: str) -> "subprocess.CompletedProcess[bytes]":
    line = [sys.executable, "-m", "guest.launcher.run", str(limit), *argv]
    return subprocess.run(line, capture_output=True, timeout=60, check=False)


def test_a_log_is_bounded_and_the_job_goes_on() -> None:
    """A flood is dropped, not held up: the command ends as it would have."""
    done = run(4096, "sh", "-c", "head -c 200000000 /dev/zero; exit 7")
    assert done.returncode == 7
    assert len(done.stdout) < 4096 + 100
    assert b"the log is full" in done.stdout


def test_a_log_that_is_full_to_the_byte_says_so_too() -> None:
    """What comes in whole blocks fills it without a rest."""
    done = run(128 * 1024, "sh", "-c", "head -c 131072 /dev/zero; sleep 0.3; echo more")
    assert b"the log is full" in done.stdout
    assert b"the log is full" not in run(131072, "sh", "-c", "head -c 131072 /dev/zero").stdout


@pytest.mark.parametrize(
    ("argv", "code", "output"),
    [
        (("sh", "-c", "printf '\\377\\000'; exit 3"), 3, b"\xff\0"),
        (("sh", "-c", "kill -9 $$"), -9, b""),
        (("sh", "-c", "kill -15 $$"), -15, b""),
        (("/no/such",), 127, b"cannot run the command: No such file or directory\n"),
    ],
)
def test_ends_as_the_command_ends(argv: tuple[str, ...], code: int, output: bytes) -> None:
    done = run(4096, *argv)
    assert (done.returncode, done.stdout) == (code, output)


def test_a_full_volume_ends_no_job() -> None:
    """What cannot be written is dropped; the command ends as it would have."""
    line = [sys.executable, "-m", "guest.launcher.run", "4096", "sh", "-c", "yes | head -c 300000; exit 6"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (6, b"")


def test_the_journal_is_of_our_two_services_and_fits_an_answer() -> None:
    """The newest whole lines, whatever is in them; nothing that was asked for gets onto a command line."""
    assert journal.command("agent")[-1] == "--unit=portal-agent.service"
    assert set(journal.UNITS) == LOGGED
    text = "".join(f"{number} {chr(7) * 100} ä\n" for number in range(5000))
    kept = journal.newest(text)
    assert text.endswith(kept)
    assert kept.splitlines()[-1].startswith("4999 ")
    assert kept[0].isdigit()
    assert len(json.dumps({"ok": True, "text": kept})) < 64 * 1024
    assert len(kept.splitlines()) > 50


def test_a_long_line_hides_nothing_before_it() -> None:
    """Who makes a service write one would blind the operator else."""
    kept = journal.newest("before\n" * 5 + "begins" + "x" * 49_152 + "ends\n")
    assert kept.splitlines()[:5] == ["before"] * 5
    assert kept.splitlines()[5].startswith("beginsxxx")
    assert "characters are left out" in kept
    assert kept.endswith("xxxends\n")
    whole = json.dumps({"ok": True, "text": journal.newest("\U0001f600" * 49_152 + "\n")})
    assert 10_000 < len(whole) < 64 * 1024


PRINTS = "import sys\nfor n in range(1000): sys.stdout.write('x' * 48000 + str(n) + chr(10))"


def test_reading_the_journal_holds_only_its_end() -> None:
    """48 MB of it would not fit into the launcher's own unit."""
    tracemalloc.start()
    try:
        found = journal.last_of([sys.executable, "-c", PRINTS], 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.endswith(b"x999\n")
    assert len(found) == journal.HELD_BYTES
    assert peak < 4 * journal.HELD_BYTES


@pytest.mark.parametrize(
    "line", ["import time; time.sleep(60)", "import os,time; os.close(1); time.sleep(60)"]
)
def test_a_journal_that_does_not_answer_is_given_up(line: str) -> None:
    began = time.monotonic()
    with pytest.raises(Refused, match="in time"):
        journal.last_of([sys.executable, "-c", line], 0.5)
    assert time.monotonic() - began < 10
    with pytest.raises(Refused, match="does not answer"):
        journal.last_of([sys.executable, "-c", "raise SystemExit(1)"], 20)
