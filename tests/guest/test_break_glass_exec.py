"""An operator's commands: bounded, without a shell, and over when the access is."""

import asyncio
import base64
import os
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from aiohttp import ClientError

from guest.agent.breakglass.exec import FOLDER, OUTPUT_BYTES, Commands, Exec
from guest.agent.jobs.launched import Bounds, Launched
from guest.agent.launcher import Launcher
from tests.guest.fleet import ROOT
from tests.guest.glass import Glass, Server, all_scopes, served
from tests.guest.shop import wait_for
from tests.protocol.ticketing import ANN, BEN, a_grant

EXEC = "/v1/break-glass/exec"


@dataclass
class Bench:
    """A guest with a launcher's double."""

    glass: Glass
    folder: Path

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"

    @property
    def marks(self) -> Path:
        return self.folder / FOLDER

    def commands(self) -> Commands:
        launcher = Launcher(self.folder / "launcher.sock")
        return Commands(Launched(launcher, self.jobs, Bounds(64 << 20, 64)), self.marks)

    def run(self, case: Callable[["Operator"], Awaitable[None]]) -> None:
        async def whole() -> None:
            commands = self.commands()
            handlers = Exec(commands).handlers()
            async with asyncio.timeout(40), commands.tended(), served(self.glass, handlers) as server:
                opened = self.glass.access.take(a_grant(all_scopes(), by=[ANN, BEN]))
                await case(Operator(server, opened, self.glass.session(opened)))
                await until(self.is_clean)

        asyncio.run(whole())

    def is_clean(self) -> bool:
        """Nothing of any command is left: no mark, no log, no result, no process."""
        return not list(self.marks.iterdir()) and {each.name for each in self.jobs.iterdir()} <= {"starts"}

    def groups(self) -> list[int]:
        """The processes that were begun, by their group."""
        return [int(each.read_text()) for each in self.jobs.glob("*.pid") if each.read_text()]


@dataclass
class Operator:
    server: Server
    opened: Any
    session: str

    async def ask(self, *argv: str, cwd: str = "", seconds: Any = 20) -> Any:
        body = {"argv": list(argv), "cwd": cwd, "seconds": seconds}
        answer = await self.server.ask(self.opened, "POST", EXEC, self.session, body)
        return await answer.json()


async def until(there: Callable[[], bool]) -> None:
    while not there():
        await asyncio.sleep(0.02)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A short folder: the name of a socket has at most 107 bytes."""
    with TemporaryDirectory(prefix="exec-") as name:
        folder = Path(name)
        (folder / "jobs").mkdir()
        (folder / "agent").mkdir()
        socket = folder / "launcher.sock"
        line = [sys.executable, "-m", "tests.guest.launcher_double", str(socket), str(folder / "jobs")]
        process = subprocess.Popen(line, cwd=ROOT)
        try:
            wait_for(socket.exists)
            yield Bench(Glass(folder / "agent"), folder)
        finally:
            process.kill()
            process.wait()


def test_a_command_and_its_receipt(bench: Bench) -> None:
    """Exit code, output and its digest; what a shell would read is plain text; the folder is the one asked for."""

    async def case(operator: Operator) -> None:
        ran = await operator.ask("sh", "-c", 'printf "%s\\n" "$0" "$@"; exit 3', "$HOME", "*", "a b")
        output = b"$HOME\n*\na b\n"
        assert base64.b64decode(ran.pop("output")) == output
        digest = sha256(output).hexdigest()
        assert ran == {
            "exit_code": 3,
            "signal": None,
            "reason": "exit_code",
            "truncated": False,
            "sha256": digest,
        }
        there = await operator.ask("pwd", cwd="guest/agent")
        assert base64.b64decode(there["output"]).decode().strip() == str(ROOT / "guest" / "agent")

    bench.run(case)
    access, outcome = [each["detail"] for each in bench.glass.receipts()[2:4]]
    assert access["argv"][3:] == ["$HOME", "*", "a b"]
    assert (outcome["exit_code"], outcome["bytes"]) == (3, 12)
    assert outcome["sha256"] == sha256(b"$HOME\n*\na b\n").hexdigest()


def test_what_a_command_may_use(bench: Bench) -> None:
    """A MiB of output, the seconds asked for, and the bounds of one job."""

    async def case(operator: Operator) -> None:
        long = await operator.ask("sh", "-c", "head -c 3000000 /dev/zero | tr '\\000' x")
        assert long["truncated"] is True
        assert base64.b64decode(long["output"]) == b"x" * OUTPUT_BYTES
        late = await operator.ask("sleep", "60", seconds=1)
        assert (late["reason"], late["exit_code"]) == ("time_limit", None)

    bench.run(case)
    assert [line.split()[1:4] for line in (bench.jobs / "starts").read_text().splitlines()] == [
        [str(64 << 20), "64", "20"],
        [str(64 << 20), "64", "1"],
    ]


def test_it_runs_no_longer_than_the_access(bench: Bench) -> None:
    async def case(operator: Operator) -> None:
        bench.glass.clock.go(1795)
        await operator.ask("true", seconds=60)

    bench.run(case)
    assert (bench.jobs / "starts").read_text().split()[3] == "5"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"seconds": 61}, "bad_request"),
        ({"seconds": 0}, "bad_request"),
        ({"seconds": True}, "bad_request"),
        ({"argv": []}, "bad_request"),
        ({"argv": ["A=1"]}, "bad_request"),
        ({"argv": ["a\0"]}, "bad_request"),
        ({"argv": "ls"}, "bad_request"),
        ({"cwd": "../x"}, "bad_path"),
        ({"cwd": "/"}, "bad_path"),
        ({"cwd": None}, "bad_request"),
        ({"shell": True}, "bad_request"),
    ],
)
def test_what_is_no_command(bench: Bench, asked: dict[str, Any], code: str) -> None:
    body = {"argv": ["true"], "cwd": "", "seconds": 5} | asked

    async def case(operator: Operator) -> None:
        assert await operator.server.code(operator.opened, "POST", EXEC, operator.session, body) == code

    bench.run(case)
    assert not (bench.jobs / "starts").exists()


async def running(operator: Operator, bench: Bench) -> "tuple[asyncio.Task[Any], int]":
    """A long command that takes no notice of a friendly signal, under way, and its group."""
    task = asyncio.create_task(operator.ask("sh", "-c", "trap '' TERM HUP INT; sleep 50 & wait", seconds=50))
    await until(lambda: bool(bench.groups()))
    return task, bench.groups()[0]


@pytest.mark.parametrize("how", ["ended", "over in time", "operator gone"])
def test_it_ends_with_the_access(bench: Bench, how: str) -> None:
    """At once, by force, with all its processes, and nothing of its output gets out."""

    async def case(operator: Operator) -> None:
        task, group = await running(operator, bench)
        assert alive(group)
        if how == "ended":
            bench.glass.access.end(operator.opened.ticket.ticket, "portal")
        elif how == "over in time":
            bench.glass.clock.go(1801)
        else:
            task.cancel()
        async with asyncio.timeout(5):
            await until(lambda: not alive(group))
        with suppress(ClientError, asyncio.CancelledError):
            assert "output" not in await task

    bench.run(case)


def test_one_at_a_time(bench: Bench) -> None:
    async def case(operator: Operator) -> None:
        task, _ = await running(operator, bench)
        assert (await operator.ask("true"))["error"] == "busy"
        bench.glass.access.end(operator.opened.ticket.ticket, "portal")
        with suppress(ClientError):
            await task

    bench.run(case)


def test_what_does_not_start(bench: Bench) -> None:
    (bench.jobs / "refuse").touch()

    async def case(operator: Operator) -> None:
        assert (await operator.ask("true"))["error"] == "not_started"
        (bench.jobs / "refuse").unlink()

    bench.run(case)


def test_an_agent_that_died_ends_it_at_its_next_start(bench: Bench) -> None:
    """The mark is on the disk before the command is begun, so whoever starts next finds it."""
    name = str(uuid.uuid4())
    asked = {"id": name, "argv": ["sleep", "50"], "memory_bytes": 64 << 20, "tasks": 8, "seconds": 50}

    async def whole() -> None:
        commands = bench.commands()
        launcher = Launcher(bench.folder / "launcher.sock")
        await launcher.ask({"verb": "job_start", **asked, "cpu_weight": 100, "log_bytes": 4096})
        (bench.marks / name).touch()
        (bench.marks / ".half.new").touch()
        await until(lambda: bool(bench.groups()))
        (group,) = bench.groups()
        async with asyncio.timeout(10), commands.tended():
            await until(lambda: not alive(group) and bench.is_clean())

    asyncio.run(whole())


def test_the_mark_is_there_before_the_command(bench: Bench) -> None:
    async def case(operator: Operator) -> None:
        task, _ = await running(operator, bench)
        begun = (bench.jobs / "starts").read_text().split()[0]
        assert [each.name for each in bench.marks.iterdir()] == [begun]
        bench.glass.access.end(operator.opened.ticket.ticket, "portal")
        with suppress(ClientError):
            await task

    bench.run(case)


def test_without_a_launcher(tmp_path: Path) -> None:
    bench = Bench(Glass(tmp_path), tmp_path)
    bench.jobs.mkdir()

    async def case(operator: Operator) -> None:
        assert (await operator.ask("true"))["error"] == "no_launcher"

    bench.run(case)
