"""A small world of network namespaces, made by the test and gone with it: two guests, each on a bridge of a host, and
an internet behind the host. On the host runs the real keeper with the real Squid, as a user without a name.

Nothing of this machine's own network is touched, and nothing outside it is reached.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from provisioning.egress.records import Record, complete, parse
from provisioning.egress.rules import AllowedHost, Rules, TenantRules, file_name
from tests.egress.outside import Answer, Outside

FLEET = "world"
USER = 61184
"""No account has it. Whether there is one is none of the kernel's business."""
PORT, AGENT_PORT = 3128, 8443
API, SITE, RAW = "api.github.com", "github.com", "raw.githubusercontent.com"
EVIL = "evil.example"
PRIVATE, METADATA = "10.66.0.1", "169.254.169.254"
OUTSIDE_V6 = "2001:db8:77::1"
_NEW_NETWORK = 0x40000000
_CHECKOUT = Path(__file__).resolve().parents[2]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Guest:
    """One guest's place in the world."""

    letter: str
    number: int

    @property
    def runtime(self) -> uuid.UUID:
        return uuid.UUID(int=0xA0 + self.number)

    @property
    def tap(self) -> str:
        return f"pt{FLEET}-{self.number:04x}"

    @property
    def listen(self) -> str:
        return f"10.99.0.{4 * self.number + 1}"

    @property
    def address(self) -> str:
        return f"10.99.0.{4 * self.number + 2}"

    def rules(self, *names: str, port: int = 443) -> TenantRules:
        hosts = tuple(AllowedHost(name, port) for name in sorted(names))
        return TenantRules(self.runtime, self.tap, self.listen, self.address, hosts)


ALICE, BOB = Guest("a", 0), Guest("b", 1)


def wait_for(what: str, look: Callable[[], _T], seconds: float = 15.0) -> _T:
    """The first true answer of ``look``."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.05)
    return found


@dataclass
class World:
    """Namespaces, the outside's servers, and the folder in which keepers work."""

    base: Path
    prefix: str = field(default_factory=lambda: f"ew{os.getpid():x}")
    outside: Outside = field(init=False)
    fleets: set[str] = field(init=False, default_factory=set)
    """Whose keepers have worked here."""

    def space(self, letter: str) -> str:
        """The name of a namespace: h host, i internet, a and b guests."""
        return f"{self.prefix}{letter}"

    def enter(self, letter: str) -> list[str]:
        """What goes before a command that is to run in the namespace."""
        return ["ip", "netns", "exec", self.space(letter)]

    def up(self) -> None:
        for letter in "hiab":
            _ip("netns", "add", self.space(letter))
            self._in(letter, "link", "set", "lo", "up")
        self._internet()
        for guest in (ALICE, BOB):
            self._guest(guest)
        self.outside = Outside(lambda family, kind: self.socket("i", family, kind), self.base)
        wait_for("IPv6 addresses are tried", lambda: "tentative" not in self._addresses("i"))
        self.outside.start((API, SITE, RAW, EVIL, "*.github.com", "*.example"))
        self.reset_names()

    def down(self) -> None:
        if hasattr(self, "outside"):
            self.outside.stop()
        for letter in "abhi":
            subprocess.run(["ip", "netns", "del", self.space(letter)], capture_output=True, check=False)

    def clear_walls(self) -> None:
        """Take away what keepers of this world left in the packet filter, as `make down` does."""
        for fleet in self.fleets:
            self.command("h", "nft", "delete", "table", "inet", f"egress_{fleet}")
        self.fleets.clear()

    def reset_names(self) -> None:
        """The names of the outside, as they are unless a test says otherwise."""
        self.outside.answers.clear()
        self.outside.answers.update(
            {
                API: Answer(a=("198.51.100.10",)),
                SITE: Answer(a=("198.51.100.11",)),
                RAW: Answer(a=("198.51.100.12",), aaaa=(OUTSIDE_V6,)),
                EVIL: Answer(a=("198.51.100.13",)),
            }
        )

    def inside(self, letter: str, act: Callable[[], _T]) -> _T:
        """Run ``act`` in a thread that is in the namespace."""
        found: list[_T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                with Path(f"/run/netns/{self.space(letter)}").open() as place:
                    if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), _NEW_NETWORK):
                        raise OSError(ctypes.get_errno(), "setns")
                found.append(act())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def socket(
        self, letter: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM
    ) -> socket.socket:
        """A socket of the namespace; it stays one wherever it is used."""
        return self.inside(letter, lambda: socket.socket(family, kind))

    def command(self, letter: str, *argv: str, **more: Any) -> "subprocess.CompletedProcess[str]":
        """Run a program in the namespace."""
        return subprocess.run(
            [*self.enter(letter), *argv],
            capture_output=True, text=True, timeout=30, check=False, **more,
        )  # fmt: skip

    def link(self, guest: Guest, state: str) -> None:
        """Give the host its end of a guest's link, or take it away."""
        verb = "add" if state == "up" else "del"
        self._in("h", "addr", verb, f"{guest.listen}/30", "dev", f"br{guest.letter}")

    def _internet(self) -> None:
        self._in("h", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", self.space("i"))
        for letter, device, addresses in (
            ("h", "up0", ["198.51.100.254/24", "2001:db8:77::fe/64"]),
            ("i", "eth0", [f"198.51.100.{n}/24" for n in (1, 10, 11, 12, 13)] + [f"{OUTSIDE_V6}/64"]),
        ):
            self._in(letter, "link", "set", device, "up")
            for address in addresses:
                self._in(letter, "addr", "add", address, "dev", device)
        for address in (PRIVATE, METADATA):
            self._in("i", "addr", "add", f"{address}/32", "dev", "lo")
            self._in("h", "route", "add", address, "via", "198.51.100.1")

    def _guest(self, guest: Guest) -> None:
        bridge = f"br{guest.letter}"
        self._in("h", "link", "add", bridge, "type", "bridge")
        self._in(
            "h",
            "link",
            "add",
            guest.tap,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self.space(guest.letter),
        )
        self._in("h", "link", "set", guest.tap, "master", bridge, "up")
        self._in("h", "link", "set", bridge, "up")
        self._in("h", "addr", "add", f"{guest.listen}/30", "dev", bridge)
        self._in(guest.letter, "addr", "add", f"{guest.address}/30", "dev", "eth0")
        self._in(guest.letter, "link", "set", "eth0", "up")
        self._in(guest.letter, "route", "add", "default", "via", guest.listen)

    def _in(self, letter: str, *argv: str) -> None:
        _ip("-n", self.space(letter), *argv)

    def _addresses(self, letter: str) -> str:
        return self.command(letter, "ip", "-6", "addr").stdout


@dataclass
class KeeperProcess:
    """A keeper on the world's host, spoken to as a worker would: by files in its folder."""

    world: World
    folder: Path
    run: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None
    generation: int = 0

    @classmethod
    def fresh(cls, world: World, **environment: str) -> "KeeperProcess":
        place = Path(tempfile.mkdtemp(prefix="k-", dir=world.base))
        place.chmod(0o755)
        made = cls(world, place / "folder", place / "run", environment)
        # As deploy/portalctl/egress.py makes them.
        for path, owner, mode in ((made.folder, 0, 0o1770), (made.run, USER, 0o750)):
            path.mkdir()
            os.chown(path, owner, USER)
            path.chmod(mode)
        return made

    def start(self, *, ready: bool = True, capabilities: bool = True) -> None:
        before, environment = self._written(), self._environment()
        self.world.fleets.add(environment["PORTAL_FLEET_ID"])
        right = ",+net_admin" if capabilities else ""
        caps = [f"--{kind}-caps=-all{right}" for kind in ("inh", "ambient")]
        self.process = subprocess.Popen(
            [
                *self.world.enter("h"),
                "setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", *caps, "--",
                sys.executable, "-B", "-m", "provisioning.egress.host",
            ],
            cwd=_CHECKOUT,
            env=environment,
            stderr=(self.run.parent / "keeper.log").open("ab"),
        )  # fmt: skip
        if ready:
            wait_for("the keeper is up", lambda: self._written() > before or self._dead())

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)

    def put(self, *tenants: TenantRules, generation: int | None = None, fleet: str = FLEET) -> int:
        """Upload a document, and answer its generation."""
        self.generation = generation or self.generation + 1
        ordered = tuple(sorted(tenants, key=lambda each: str(each.runtime)))
        self.upload(file_name(self.generation), Rules(self.generation, fleet, ordered).to_bytes())
        return self.generation

    def upload(self, name: str, data: bytes) -> None:
        """As libvirt does: root's file, written in place."""
        path = self.folder / name
        path.write_bytes(data)
        path.chmod(0o644)

    def obey(self, *tenants: TenantRules) -> None:
        """Upload a document and wait until it is in force."""
        wanted = self.put(*tenants)
        wait_for(f"generation {wanted}", lambda: self.state().get("generation") == wanted or self._dead())

    def state(self) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.folder / "state.json").read_bytes())
            return found
        return {}

    def squid(self) -> int | None:
        """The process id of its Squid."""
        wanted = os.fsencode(self.run / "squid.conf")
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if wanted in path.read_bytes().split(b"\0"):
                    return int(path.parent.name)
        return None

    def records(self) -> list[Record]:
        """All attempts so far, oldest first."""
        found = []
        for path in sorted(self.folder.glob("records-*.log")):
            lines, _ = complete(path.read_bytes())
            found += [record for line in lines if (record := parse(line.decode())) is not None]
        return found

    def log(self) -> str:
        return (self.run.parent / "keeper.log").read_text()

    def _written(self) -> int:
        """When the state was written last; a keeper's first word is that it has taken up its rules."""
        path = self.folder / "state.json"
        return path.stat().st_mtime_ns if path.exists() else 0

    def _dead(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the keeper ended: {self.log()[-800:]}")
        return False

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "PORTAL_FLEET_ID": FLEET,
            "PORTAL_EGRESS_DIR": str(self.folder),
            "PORTAL_EGRESS_RUN": str(self.run),
            "PORTAL_EGRESS_NAMESERVERS": "198.51.100.1",
            "PORTAL_EGRESS_PORT": str(PORT),
            "PORTAL_AGENT_PORT": str(AGENT_PORT),
            **self.environment,
        }


@dataclass
class Tunnel:
    """A guest's connection to the proxy."""

    line: socket.socket
    status: int
    head: bytes

    def tls(self, world: World, name: str | None, *, verify: bool = True) -> ssl.SSLSocket:
        """Shake hands; with ``verify`` only the outside's own certificate will do."""
        context = ssl.create_default_context(cafile=str(world.outside.authority))
        if not verify or name is None:
            context.check_hostname = False
        if not verify:
            context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(self.line, server_hostname=name)


def ask(
    world: World, guest: Guest, request: bytes, *, proxy: str | None = None, seconds: float = 15
) -> Tunnel:
    """Send bytes to a guest's proxy, and read the head of the answer; status 0 if there is none."""
    line = world.socket(guest.letter)
    line.settimeout(seconds)
    line.connect((proxy or guest.listen, PORT))
    line.sendall(request)
    head = b""
    with contextlib.suppress(ConnectionResetError):
        while b"\r\n\r\n" not in head and (more := line.recv(1)):
            head += more
    words = head.split(b" ", 2)
    return Tunnel(line, int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, head)


def connect(world: World, guest: Guest, target: str, **more: Any) -> Tunnel:
    """A well-formed CONNECT."""
    return ask(world, guest, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode(), **more)


def fetch(world: World, guest: Guest, name: str, path: str = "/") -> bytes:
    """GET by way of the proxy, with the certificate checked; the body."""
    tunnel = connect(world, guest, f"{name}:443")
    assert tunnel.status == 200, tunnel.head
    with tunnel.tls(world, name) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        answer = b""
        while more := line.recv(65536):
            answer += more
    return answer.partition(b"\r\n\r\n")[2]


def served(world: World) -> bool:
    with contextlib.suppress(OSError):
        return connect(world, ALICE, f"{API}:443").status == 200
    return False


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A world, and its end."""
    base = Path(tempfile.mkdtemp(prefix="egress-world-"))
    base.chmod(0o755)
    made = World(base)
    try:
        made.up()
        yield made
    finally:
        made.down()
        shutil.rmtree(base, ignore_errors=True)


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], capture_output=True, check=True, timeout=20)
