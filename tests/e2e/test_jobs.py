"""Jobs in a real guest: how they end, what they cannot reach, and what is left of them."""

import base64
import json
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

from audit.context import command
from provisioning.models import GuestImage, Host, Operation
from provisioning.services import operation_request
from tenants.models import Tenant
from tests.e2e.members import Member
from tests.provisioning.workers import created, drain

pytestmark = [pytest.mark.guest, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
BOOT_SECONDS = 400.0
FILES = "/v1/workspace/files?path="
OVER = {"succeeded", "failed", "cancelled", "interrupted"}
PROBE = """
    import ctypes, errno, json, os, socket, subprocess

    def outcome(deed):
        try:
            return repr(deed())
        except OSError as failure:
            return errno.errorcode.get(failure.errno, str(failure))
        except Exception as failure:
            return type(failure).__name__

    def connected(path):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(path)

    def loopback():
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()

    def unshared(flag):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(flag):
            raise OSError(ctypes.get_errno(), "")

    def written(path):
        with open(path, "w") as file:
            file.write("x")

    SOCK_STREAM, SOCK_RAW = socket.SOCK_STREAM, socket.SOCK_RAW
    found = {
        "who": [os.getuid(), sorted(os.getgroups())],
        "cwd": os.getcwd(),
        "environment": sorted(os.environ),
        "fds": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
        "status": [
            line.split() for line in open("/proc/self/status") if line.startswith(("Cap", "NoNewPrivs", "Seccomp:"))
        ],
        "hidden": {
            path: outcome(lambda: os.listdir(path))
            for path in (
                "/var/lib/portal/agent",
                "/var/lib/portal/gateway",
                "/var/lib/portal/jobs",
                "/run/portal",
                "/run/credentials",
                "/root",
                "/sys/fs/cgroup/../../../../root",
            )
        },
        "read": {
            path: outcome(lambda: open(path, "rb").read(1))
            for path in (
                "/var/lib/portal/agent/keys.json",
                "/var/lib/portal/workspace/../agent/jobs.sqlite3",
                "/proc/1/environ",
                "/proc/1/root/var/lib/portal/agent",
                "/etc/shadow",
                "/dev/vda",
                "/dev/mem",
                "/sys/firmware/dmi/entries/11-0/raw",
                "/sys/firmware/dmi/tables/DMI",
            )
        },
        "sockets": {
            path: outcome(lambda: connected(path))
            for path in (
                "/run/portal/launcher.sock",
                "/run/systemd/private",
                "/run/systemd/notify",
                "/run/systemd/journal/socket",
            )
        },
        "loopback": outcome(loopback),
        "families": {
            name: outcome(lambda: socket.socket(*given))
            for name, given in {
                "raw": (socket.AF_INET, SOCK_RAW, 1),
                "packet": (socket.AF_PACKET, SOCK_RAW, 0),
                "netlink": (socket.AF_NETLINK, SOCK_RAW, 0),
                "vsock": (40, SOCK_STREAM, 0),
                "ipv6": (socket.AF_INET6, SOCK_STREAM, 0),
                "alg": (38, 5, 0),
            }.items()
        },
        "namespaces": {hex(flag): outcome(lambda: unshared(flag)) for flag in (0x10000000, 0x20000, 0x40000000)},
        "written": {
            path: outcome(lambda: written(path))
            for path in ("/etc/x", "/usr/x", "/opt/agent/x", "/var/lib/portal/x", "/dev/x", "/sys/x", "/run/x")
        },
        "processes": sorted(
            {os.stat(f"/proc/{each}").st_uid for each in os.listdir("/proc") if each.isdecimal()}
        ),
    }
    print(json.dumps(found))
"""
GRANDCHILD = """
    import os, time
    for _ in range(2):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "31337"])
            os._exit(0)
    print("planted", flush=True)
    time.sleep(300)
"""
LEFT = """
    import os
    found = []
    for each in filter(str.isdecimal, os.listdir("/proc")):
        try:
            found.append(open(f"/proc/{each}/cmdline").read())
        except OSError:
            pass
    print(sum(line.split(chr(0))[:2] == ["sleep", "31337"] for line in found))
"""
PLANT = """
    import os, socket
    os.makedirs("planted/in", exist_ok=True)
    os.chdir("planted")
    os.symlink("/var/lib/portal/agent", "agent")
    os.symlink("../../agent", "beneath")
    os.symlink("/etc/passwd", "passwd")
    os.symlink("/proc/self/environ", "environ")
    os.symlink(".unfinished-" + "0" * 32, "loop")
    os.symlink("/etc/passwd", ".unfinished-" + "1" * 32)
    os.mkdir(".unfinished-" + "2" * 32)
    open(".unfinished-" + "3" * 32, "w").write("mine")
    os.mkfifo("pipe")
    os.mkfifo(".unfinished-" + "4" * 32)
    socket.socket(socket.AF_UNIX).bind("socket")
    open("plain", "w").write("mine")
    os.link("plain", "twice")
    for name, target in (("hard", "/etc/passwd"), ("keys", "/var/lib/portal/agent/keys.json")):
        try:
            os.link(target, name)
        except OSError as failure:
            print(name, failure.strerror)
"""
SWAP = """
    import os, time
    os.makedirs("swapped/real", exist_ok=True)
    os.chdir("swapped")
    open("real/passwd", "w").write("mine")
    os.symlink("/etc", "link")
    print("swapping", flush=True)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for which in ("real", "link"):
            os.rename(which, "now")
            os.rename("now", which)
"""


@dataclass
class Worker:
    """The owner, who wants jobs done."""

    member: Member

    def post(self, *argv: str, **more: Any) -> httpx.Response:
        return self.member.post("/v1/jobs", {"kind": "command", "argv": list(argv), **more})

    def run(self, *argv: str, **more: Any) -> str:
        answer = self.post(*argv, **more)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def script(self, text: str, **more: Any) -> str:
        return self.run("python3", "-c", textwrap.dedent(text), **more)

    def item(self, name: str) -> Any:
        return self.member.ask("GET", f"/v1/jobs/item?id={name}").json()

    def cancel(self, name: str) -> Any:
        return self.member.post("/v1/jobs/cancel", {"id": name}).json()

    def until(self, name: str, *states: str, seconds: float = 90) -> Any:
        until = time.monotonic() + seconds
        while (found := self.item(name))["state"] not in (states or OVER):
            assert time.monotonic() < until, found
            time.sleep(0.3)
        return found

    def ended(self, *argv: str, **more: Any) -> tuple[str, str | None, int | None, str | None]:
        found = self.until(self.run(*argv, **more))
        return found["state"], found["reason"], found["exit_code"], found["signal"]

    def pieces(self, name: str) -> Iterator[Any]:
        """The whole log, as it grows."""
        offset, end = 0, False
        while not end:
            asked = urlencode({"id": name, "offset": offset, "wait": 15})
            piece = self.member.ask("GET", f"/v1/jobs/log?{asked}").json()
            yield piece
            offset, end = piece["next"], piece["end"]

    def output(self, name: str) -> bytes:
        return b"".join(base64.b64decode(piece["data"]) for piece in self.pieces(name))

    def says(self, name: str, words: bytes, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while words not in base64.b64decode(self.member.ask("GET", f"/v1/jobs/log?id={name}").json()["data"]):
            assert time.monotonic() < until, self.item(name)
            time.sleep(0.3)


def test_jobs_in_a_real_guest(real_host: Host, real_image: GuestImage, tenant: Tenant) -> None:
    """One boot, everything that needs a real kernel and systemd; and at last a stop and a start."""
    runtime = created(tenant, BOOT_SECONDS)
    worker = Worker(Member.sign_in(runtime, real_host))
    for check in (ends, closed_in, floods, bombs, hogs, leaves_nothing, plants, swaps, queues):
        began = time.monotonic()
        check(worker)
        print(f"{check.__name__}: {time.monotonic() - began:.1f} s")  # noqa: T201 - figures

    done, on, waiting = worker.run("true"), worker.run("sleep", "500"), worker.run("sleep", "501")
    stubborn = worker.run("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")
    queued = worker.run("echo", "after the boot")
    worker.until(done)
    for name in (on, waiting):
        worker.until(name, "running")
    worker.cancel(waiting)
    worker.until(stubborn, "running")
    for kind in (Operation.Kind.STOP, Operation.Kind.START):
        asked = operation_request(actor=command("test"), runtime_id=runtime.pk, kind=kind, reason="a test")
        ended = drain(asked, BOOT_SECONDS)
        assert ended.state == Operation.State.SUCCEEDED, ended.error_message
    worker = Worker(Member.sign_in(runtime, real_host))
    for name in (on, stubborn):
        found = worker.item(name)
        assert (found["state"], found["reason"]) == ("interrupted", "machine_restarted"), found
    assert worker.item(done)["state"] == "succeeded"
    assert worker.until(queued)["state"] == "succeeded"
    assert worker.output(queued) == b"after the boot\n"


def ends(worker: Worker) -> None:
    """Every way for a command to end is told apart."""
    began = time.monotonic()
    assert worker.ended("true") == ("succeeded", None, 0, None)
    print(f"a trivial job, from asking to its end: {time.monotonic() - began:.1f} s")  # noqa: T201 - figures
    assert worker.ended("sh", "-c", "exit 7") == ("failed", "exit_code", 7, None)
    assert worker.ended("sh", "-c", "kill -9 $$") == ("failed", "signal", None, "KILL")
    assert worker.ended("sh", "-c", "kill -15 $$") == ("failed", "signal", None, "TERM")
    assert worker.ended("no-such-program") == ("failed", "exit_code", 127, None)
    assert worker.ended("sleep", "60", seconds=2)[:2] == ("failed", "time_limit")
    name = worker.run("printf", "%s|", "$HOME", "%n", "${x}", "a=b", "--", "-h", "ä")
    assert worker.output(name) == "$HOME|%n|${x}|a=b|--|-h|ä|".encode()


def closed_in(worker: Worker) -> None:
    """A job sees its workspace and the read-only system, and nobody."""
    name = worker.script(PROBE)
    output = worker.output(name)
    assert worker.until(name)["state"] == "succeeded", output
    found = json.loads(output)
    assert found["who"] == [992, [993]]
    assert found["cwd"] == "/var/lib/portal/workspace"
    assert {"PYTHONPATH", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"}.isdisjoint(found["environment"])
    assert found["fds"] == [0, 1, 2]
    status = dict(found["status"])
    assert {status[name] for name in status if name.startswith("Cap")} == {"0000000000000000"}
    assert (status["NoNewPrivs:"], status["Seccomp:"]) == ("1", "2")
    refused = {"EACCES", "EPERM", "ENOENT", "EROFS"}
    for group in ("hidden", "read", "written"):
        assert set(found[group].values()) <= refused, found[group]
    assert set(found["sockets"].values()) <= refused | {"ECONNREFUSED"}, found["sockets"]
    assert found["sockets"]["/run/portal/launcher.sock"] in {"EACCES", "ENOENT"}
    assert found["loopback"] in {"EPERM", "ETIMEDOUT", "timed out"}, found["loopback"]
    assert set(found["families"].values()) <= {"EPERM", "EAFNOSUPPORT", "EACCES"}, found["families"]
    assert set(found["namespaces"].values()) == {"EPERM"}, found["namespaces"]
    assert found["processes"] == [992]


def floods(worker: Worker) -> None:
    """20 MB of output: 4 MiB are kept and the rest is dropped; the command ends as it would have."""
    name = worker.run("sh", "-c", "head -c 20000000 /dev/zero; exit 5")
    pieces = list(worker.pieces(name))
    assert worker.until(name)["exit_code"] == 5
    assert pieces[-1]["cut"] is True
    assert (4 << 20) < pieces[-1]["size"] < (4 << 20) + 100


def bombs(worker: Worker) -> None:
    """A fork bomb is held in its bounds: the agent answers, and cancelling ends all of it."""
    name = worker.run("sh", "-c", "f() { f | f & }; f; sleep 300", seconds=60)
    worker.until(name, "running", *OVER)
    slowest = 0.0
    for _ in range(10):
        began = time.monotonic()
        assert worker.member.ask("GET", "/v1/session").status_code == 200
        slowest = max(slowest, time.monotonic() - began)
    print(f"slowest answer during the fork bomb: {slowest:.1f} s")  # noqa: T201 - figures
    assert slowest < 15
    worker.cancel(name)
    assert worker.until(name)["state"] in {"cancelled", "failed"}
    assert worker.ended("true") == ("succeeded", None, 0, None)


def hogs(worker: Worker) -> None:
    """Who wants too much memory is ended alone, and told why."""
    hog = "x = []\nwhile True: x.append(bytearray(8 << 20))"
    neighbour = worker.run("sleep", "300")
    found = worker.until(worker.script(hog))
    assert (found["state"], found["reason"]) == ("failed", "out_of_memory"), found
    assert worker.item(neighbour)["state"] == "running"
    worker.cancel(neighbour)
    worker.until(neighbour)


def leaves_nothing(worker: Worker) -> None:
    """Processes that leave their session and their parents still end with the job."""
    name = worker.script(GRANDCHILD)
    worker.says(name, b"planted")
    assert worker.output(worker.script(LEFT)).strip() == b"2"
    worker.cancel(name)
    assert worker.until(name)["state"] == "cancelled"
    assert worker.output(worker.script(LEFT)).strip() == b"0"


def plants(worker: Worker) -> None:
    """Whatever a job leaves in the workspace, its API reads nothing outside, and hangs on nothing."""
    name = worker.script(PLANT)
    output = worker.output(name).decode()
    assert worker.until(name)["state"] == "succeeded", output
    assert {line.split()[0] for line in output.splitlines()} == {"hard", "keys"}
    ask = worker.member.ask
    listed = {each["name"] for each in ask("GET", "/v1/workspace/list?path=planted").json()["entries"]}
    assert {"agent", "passwd", "pipe", "socket", "plain"} <= listed
    assert not {f".unfinished-{n * 32}" for n in "134"} & listed
    outside = ("agent", "beneath", "passwd", "environ", "loop", "pipe", "socket", "agent/keys.json")
    for path in (*outside, "beneath/keys.json", f".unfinished-{'2' * 32}"):
        answer = ask("GET", f"{FILES}{quote(f'planted/{path}')}")
        assert answer.status_code in {400, 403, 404, 409}, (path, answer.status_code)
        assert b"root:" not in answer.content
    for path in ("agent", "beneath"):
        assert ask("GET", f"/v1/workspace/list?path=planted/{path}").status_code in {400, 403, 404, 409}
        assert ask("PUT", f"{FILES}planted/{path}/x", b"x").status_code in {400, 403, 404, 409}
    assert ask("GET", f"{FILES}planted/twice").content == b"mine"
    archive = ask("GET", "/v1/workspace/archive?path=planted")
    assert archive.status_code == 200
    assert b"root:x:" not in archive.content
    assert ask("DELETE", f"{FILES}planted&recursive=1").json()["complete"] is True
    assert worker.ended("test", "-r", "/etc/passwd")[0] == "succeeded"


def swaps(worker: Worker) -> None:
    """A folder that becomes a link out, and back, while it is read: never anything but the job's own."""
    name = worker.script(SWAP)
    worker.says(name, b"swapping")
    answers = [worker.member.ask("GET", f"{FILES}swapped/now/passwd") for _ in range(40)]
    assert not any(b"root:" in answer.content for answer in answers)
    assert {answer.status_code for answer in answers} <= {200, 403, 404, 409, 503}
    worker.cancel(name)
    worker.until(name)


def queues(worker: Worker) -> None:
    """Two run, twenty wait, one more is refused; all of it is cancelled."""
    names = [worker.run("sleep", "400") for _ in range(22)]
    refused = worker.post("true")
    assert (refused.status_code, refused.json()["error"]) == (429, "too_many_jobs")
    for name in reversed(names):
        worker.cancel(name)
    for name in names:
        assert worker.until(name)["state"] == "cancelled"
