"""Who in a guest may send what: the boot's own script, in a network name space, with a host's end that would answer.

The host's end here has no packet filter at all, so whatever is refused is refused by the guest itself.
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from guest.image import recipe
from tests.guest.test_way_out import PAPERS

SCRIPT = recipe.OVERLAY / "usr/lib/portal/network"
GUEST, HOST, WORLD = PAPERS.guest_address, PAPERS.host_address, "198.51.100.7"
PROXY, OTHER = 3128, 3129
ROOT, AGENT = 0, recipe.USERS["agent"][0]
GATEWAY, TENANT = recipe.USERS["gateway"][0], recipe.USERS["tenant"][0]
REFUSED, UNANSWERED, REACHED, UNREACHABLE = "PermissionError", "TimeoutError", "reached", "101"
PROBE = """
import os, socket, sys
uid, kind, address, port = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
os.setuid(uid)
try:
    with socket.socket(socket.AF_INET, getattr(socket, kind)) as line:
        line.settimeout(0.7)
        line.connect((address, port))
        line.send(b"?")
        print("reached" if line.recv(1) == b"!" else "closed")
except OSError as failure:
    print(type(failure).__name__ if not failure.errno or failure.errno in (1, 13, 110) else failure.errno)
"""
ANSWERER = """
import selectors, socket, sys
ready = selectors.DefaultSelector()
for place in sys.argv[1:]:
    address, port = place.split(":")
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        line = socket.socket(socket.AF_INET, kind)
        line.bind((address, int(port)))
        if kind == socket.SOCK_STREAM:
            line.listen()
        ready.register(line, selectors.EVENT_READ)
print("up", flush=True)
while True:
    for key, _ in ready.select():
        if key.fileobj.type == socket.SOCK_DGRAM:
            _, peer = key.fileobj.recvfrom(9)
            key.fileobj.sendto(b"!", peer)
        else:
            accepted, _ = key.fileobj.accept()
            accepted.sendall(b"!")
            accepted.close()
"""

WATCH = f"""
table ip watch {{
    counter out {{ }}
    chain arrives {{ type filter hook prerouting priority -400; th dport {PROXY} counter name out; }}
}}"""


@dataclass
class Link:
    """Two name spaces with a wire between them."""

    guest: str
    host: str

    def probe(self, uid: int, address: str, port: int, kind: str = "SOCK_STREAM") -> str:
        line = ["ip", "netns", "exec", self.guest, sys.executable, "-c", PROBE]
        done = subprocess.run(
            [*line, str(uid), kind, address, str(port)],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout.strip()

    def seen(self) -> int:
        """Packets to the proxy's port, at whatever address, that have come out of the guest."""
        shown = json.loads(self.run("nft", "-j", "list", "counters", "table", "ip", "watch"))
        return int(next(each["counter"]["packets"] for each in shown["nftables"] if "counter" in each))

    def run(self, *line: str, end: str = "host") -> str:
        whole = ["ip", "netns", "exec", getattr(self, end), *line]
        return subprocess.run(whole, capture_output=True, text=True, timeout=20, check=True).stdout


@contextmanager
def linked(folder: Path, proxy: str | None) -> Iterator[Link]:
    """A guest whose network was set up by its own script, and a host's end where everything answers."""
    name = f"n{uuid.uuid4().hex[:8]}"
    link = Link(f"{name}-g", f"{name}-h")
    (folder / "portal.personalisation").write_bytes(replace(PAPERS, proxy=proxy).to_bytes())
    with ExitStack() as undo:
        for end in (link.guest, link.host):
            ip("netns", "add", end)
            undo.callback(ip, "netns", "delete", end)
        ip("link", "add", "eth0", "netns", link.guest, "type", "veth", "peer", "far0", "netns", link.host)
        for address in (f"{HOST}/30", f"{WORLD}/32"):
            link.run("ip", "address", "add", address, "dev", "far0")
        for each in ("far0", "lo"):
            link.run("ip", "link", "set", each, "up")
        link.run("ip", "link", "set", "lo", "up", end="guest")
        link.run("nft", WATCH)
        # As in the image's sysctl.d.
        link.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", end="guest")
        # As in the image, where nothing tells the names of protocols and services.
        hidden = "for each in protocols services; do mount --bind /dev/null /etc/$each; done"
        alone = ["unshare", "--mount", "sh", "-ec", f'{hidden}; exec "$0"', str(SCRIPT)]
        link.run("env", f"CREDENTIALS_DIRECTORY={folder}", *alone, end="guest")
        places = [f"{address}:{port}" for address in (HOST, WORLD) for port in (PROXY, OTHER)]
        undo.enter_context(answering(link.host, *places))
        undo.enter_context(answering(link.guest, f"{GUEST}:8443", f"127.0.0.1:{OTHER}"))
        yield link


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, timeout=20, check=True)


@contextmanager
def answering(space: str, *places: str) -> Iterator[None]:
    line = ["ip", "netns", "exec", space, sys.executable, "-c", ANSWERER, *places]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield
        finally:
            process.kill()


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    with linked(tmp_path_factory.mktemp("papers"), PAPERS.proxy) as made:
        yield made


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    """The same with no proxy in the papers."""
    with linked(tmp_path_factory.mktemp("closed"), None) as made:
        yield made


@pytest.mark.parametrize("uid", [GATEWAY, TENANT])
def test_the_proxy_is_reached(link: Link, uid: int) -> None:
    assert link.probe(uid, HOST, PROXY) == REACHED


@pytest.mark.parametrize("uid", [GATEWAY, TENANT])
@pytest.mark.parametrize(("port", "kind"), [(OTHER, "SOCK_STREAM"), (PROXY, "SOCK_DGRAM")])
def test_nothing_else_of_the_host_is(link: Link, uid: int, port: int, kind: str) -> None:
    """Neither another port nor the proxy's by another protocol: refused at once, with a word that says so."""
    assert link.probe(uid, HOST, port, kind) == REFUSED


def test_the_gateway_reaches_nothing_past_the_proxy(link: Link) -> None:
    """At once: no packet that could carry its key leaves the machine."""
    before = link.seen()
    for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
        assert link.probe(GATEWAY, WORLD, PROXY, kind) == REFUSED
    assert link.seen() == before


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
@pytest.mark.parametrize("uid", [TENANT, AGENT, ROOT])
def test_what_goes_past_the_proxy_leaves_and_is_not_answered(link: Link, uid: int, kind: str) -> None:
    """It meets the wall outside, where it is counted. Were there no wall, the answer would not be heard."""
    before = link.seen()
    assert link.probe(uid, WORLD, PROXY, kind) == UNANSWERED
    assert link.seen() > before


@pytest.mark.parametrize("uid", [GATEWAY, TENANT])
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_without_a_proxy_nothing_leaves(closed: Link, uid: int, kind: str) -> None:
    for address in (HOST, WORLD):
        assert closed.probe(uid, address, PROXY, kind) in {REFUSED, UNREACHABLE}
    assert closed.seen() == 0


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_a_job_does_not_reach_the_agents_door(link: Link, closed: Link, kind: str) -> None:
    for each in (link, closed):
        assert each.probe(TENANT, GUEST, 8443, kind) == REFUSED


@pytest.mark.parametrize("uid", [ROOT, AGENT, GATEWAY])
def test_loopback_stays(link: Link, uid: int) -> None:
    """The agent speaks to the gateway there. A job's own rule is systemd's, and is not part of this."""
    assert link.probe(uid, "127.0.0.1", OTHER) == REACHED


def test_the_host_reaches_the_agent_and_nobody_else_does(link: Link, closed: Link) -> None:
    """The agent answers the host's end; another address is not heard, with a way back or without one."""
    knock = "import socket, sys; l = socket.create_connection(('{}', 8443), 0.7, ('{}', 0)); print(l.recv(1))"
    for each in (link, closed):
        assert each.run(sys.executable, "-c", knock.format(GUEST, HOST)).strip() == "b'!'"
        with pytest.raises(subprocess.CalledProcessError) as failed:
            each.run(sys.executable, "-c", knock.format(GUEST, WORLD))
        assert "timed out" in failed.value.stderr
