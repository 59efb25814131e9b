"""The way out of a real guest: its jobs and its gateway ask the proxy, and go nowhere else.

The proxy is a double, at the place where the host's real one listens; the packet filter is the real one.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from guest.launcher.way_out import WayOut
from protocol.enrolment import proxy_address
from provisioning import enrolment
from provisioning.addresses import link
from provisioning.models import GuestImage, Host, Runtime
from tenants.models import Plan, Tenant
from tests.e2e.members import Member
from tests.e2e.test_gateway import agree, say, until
from tests.e2e.test_jobs import Worker
from tests.guest.outside import CONTENT, REPOSITORY, Outside, outside
from tests.provisioning.workers import created

pytestmark = [pytest.mark.guest, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
BOOT_SECONDS = 400.0
AUTHORITY = "authority.pem"
DIRECT = """
    import socket

    def tried(kind, address, port):
        with socket.socket(socket.AF_INET, kind) as line:
            line.settimeout(3)
            try:
                line.connect((address, port))
                line.send(b"x")
                return "reached" if kind == socket.SOCK_STREAM else line.recv(1) and "answered"
            except OSError as failure:
                return type(failure).__name__

    TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
    print("world", tried(TCP, "203.0.113.9", 443), tried(UDP, "203.0.113.9", 443))
    print("host", tried(TCP, "HOST", 22), tried(TCP, "HOST", 3129), tried(UDP, "HOST", 53))
    print("agent", tried(TCP, "GUEST", 8443))
    print("loopback", tried(TCP, "127.0.0.1", 18789))
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    """A double of the proxy at the first link's end, and papers that name it, whatever the host has."""
    ends = link(0)
    monkeypatch.setattr(
        enrolment, "_proxy", lambda runtime, address: proxy_address(address, settings.EGRESS_PORT)
    )
    with outside(tmp_path, ends.host_address, settings.EGRESS_PORT) as made:
        yield made


@contextmanager
def left_the_guest(runtime: Runtime) -> Iterator[Callable[[], int]]:
    """Counts packets from the guest to 203.0.113.9, before any filter has looked at them."""
    address = link(runtime.network_index).guest_address
    table = f"""table bridge way_out_test {{
        counter direct {{ }}
        chain seen {{ type filter hook prerouting priority -400;
            ip saddr {address} ip daddr 203.0.113.9 counter name direct; }}
    }}"""
    subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True, timeout=20)

    def counted() -> int:
        line = ["nft", "-j", "list", "counters", "table", "bridge", "way_out_test"]
        shown = json.loads(subprocess.run(line, capture_output=True, check=True, timeout=20).stdout)
        return int(next(each["counter"]["packets"] for each in shown["nftables"] if "counter" in each))

    try:
        yield counted
    finally:
        subprocess.run(["nft", "delete", "table", "bridge", "way_out_test"], check=True, timeout=20)


def test_the_way_out_of_a_real_guest(
    real_host: Host, real_image: GuestImage, tenant: Tenant, world: Outside
) -> None:
    """One boot, everything in turn; figures are printed."""
    runtime = created(tenant, BOOT_SECONDS)
    assert runtime.network_index == 0
    member = Member.sign_in(runtime, real_host)
    handed_over(member, world)
    print(json.dumps(member.portal.status()["boot"]))  # noqa: T201 - figures
    with left_the_guest(runtime) as counted:
        for check in (is_told, clones, fetches, is_refused):
            began = time.monotonic()
            check(member, world)
            print(f"{check.__name__}: {time.monotonic() - began:.1f} s")  # noqa: T201 - figures
        assert counted() == 0
        goes_nowhere_else(member, runtime)
        assert counted() > 0, "what goes past the proxy is to be counted outside the guest"


def handed_over(member: Member, world: Outside) -> None:
    """The certificate that stands for the public authorities, as a file of the workspace."""
    place = f"/v1/workspace/files?path={AUTHORITY}"
    assert member.ask("PUT", place, world.authority.read_bytes()).status_code in {200, 201}


def ran(member: Member, *argv: str, state: str = "succeeded") -> str:
    worker = Worker(member)
    job = str(member.post("/v1/jobs", {"kind": "command", "argv": list(argv)}).json()["id"])
    ended = worker.until(job)
    said = worker.output(job).decode()
    assert ended["state"] == state, (ended, said)
    return said


def is_told(member: Member, world: Outside) -> None:
    """The portal, the member, and every job by its environment; a job's own of systemd too."""
    proxy = f"{world.address}:{world.port}"
    assert member.portal.status()["proxy"] == proxy
    assert member.ask("GET", "/v1/outside").json() == {"proxy": proxy}
    told = dict(line.split("=", 1) for line in ran(member, "env").splitlines())
    assert told.items() >= WayOut(world.address, world.port).environment.items()


def clones(member: Member, world: Outside) -> None:
    """git over HTTPS, by the name and by the forms that people copy."""
    for number, form in enumerate(("https://github.com/", "git@github.com:", "ssh://git@github.com/")):
        said = ran(
            member,
            *("env", f"GIT_SSL_CAINFO={AUTHORITY}", "sh", "-c"),
            f"git clone -q {form}{REPOSITORY} c{number} && cat c{number}/hello.txt",
        )
        assert said == CONTENT
    assert world.tunnels() == {"github.com:443"}
    commit = "cd c0 && echo more >>hello.txt && git -c user.name=a -c user.email=a@a.test commit -qam more && git log --oneline | wc -l"
    assert ran(member, "sh", "-c", commit).strip() == "2"
    submodule = "git init -q s && cd s && git -c protocol.file.allow=always submodule --quiet add ../c0 c && cat c/hello.txt"
    assert ran(member, "sh", "-c", submodule) == f"{CONTENT}more\n"


def fetches(member: Member, world: Outside) -> None:
    """curl, Python and Node find their way by the environment alone."""
    url = "https://api.github.com/hello"
    python = (
        "import ssl, urllib.request as u;"
        f"print(u.urlopen('{url}', context=ssl.create_default_context(cafile='{AUTHORITY}')).read().decode())"
    )
    node = f"fetch('{url}').then(a => a.text()).then(console.log)"
    authority = f"NODE_EXTRA_CA_CERTS={AUTHORITY}"
    lines: tuple[tuple[str, ...], ...] = (
        ("curl", "-sS", "--cacert", AUTHORITY, url),
        ("python3", "-c", python),
        ("env", authority, "/opt/gateway/bin/node", "-e", node),
    )
    for line in lines:
        assert json.loads(ran(member, *line)) == {"said": "hello"}
    assert world.served.count("api.github.com /hello") == len(lines)
    # Without the test's authority it is the public ones that count: the image knows them.
    assert "unable to get local issuer" in ran(member, "sh", "-c", f"curl -sS {url} 2>&1; true")
    known = "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt"
    assert int(ran(member, "sh", "-c", known)) > 100


def is_refused(member: Member, world: Outside) -> None:
    """The proxy's no reaches the program at once, by HTTPS and by plain HTTP."""
    began = time.monotonic()
    assert "403" in ran(member, "sh", "-c", "curl -sS https://elsewhere.test/ 2>&1; true")
    code = ran(member, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://api.github.com/")
    assert code == "403"
    assert time.monotonic() - began < 60
    assert {"CONNECT elsewhere.test:443 HTTP/1.1", "GET http://api.github.com/ HTTP/1.1"} <= set(world.asked)


def goes_nowhere_else(member: Member, runtime: Runtime) -> None:
    """Not to the world, nor to another port of the host, nor to the agent's door, nor to the gateway's."""
    ends = link(runtime.network_index)
    worker = Worker(member)
    job = worker.script(DIRECT.replace("HOST", ends.host_address).replace("GUEST", ends.guest_address))
    assert worker.until(job)["state"] == "succeeded"
    said: dict[str, Any] = {
        name: outcomes
        for name, *outcomes in (line.split() for line in worker.output(job).decode().splitlines())
    }
    assert said == {
        "world": ["TimeoutError", "TimeoutError"],
        "host": ["PermissionError"] * 3,
        "agent": ["PermissionError"],
        "loopback": ["TimeoutError"],
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_gateways_way_out(
    real_host: Host, real_image: GuestImage, tenant: Tenant, world: Outside
) -> None:
    """Its tools reach the proxy and nothing else; what they send past it does not even leave the guest."""
    Plan.objects.update(memory_mib=2048, disk_gib=2)
    tenant.refresh_from_db()
    runtime = created(tenant, BOOT_SECONDS)
    member = Member.sign_in(runtime, real_host)
    handed_over(member, world)
    assert member.ask("PUT", "/v1/gateway/model", b'{"model": "rehearsal"}').status_code == 200
    agree(member, 1)
    assert member.post("/v1/gateway/start", {}).status_code == 202
    until(member, "ready")

    authority = f"/var/lib/portal/workspace/{AUTHORITY}"
    said = say(member, f"run: curl -sS --cacert {authority} https://api.github.com/hello")
    assert json.loads(said) == {"said": "hello"}
    clone = f"git -c http.sslCAInfo={authority} clone -q https://github.com/{REPOSITORY} hers"
    assert say(member, f"run: {clone} && cat hers/hello.txt").strip() == CONTENT.strip()
    assert world.tunnels() == {"api.github.com:443", "github.com:443"}

    host = link(runtime.network_index).host_address
    with left_the_guest(runtime) as counted:
        for place in ("'203.0.113.9', 443", f"'{host}', 22", f"'{host}', {settings.EGRESS_PORT + 1}"):
            attempt = f"import socket; socket.create_connection(({place}), 5)"
            assert "PermissionError" in say(member, f'run: python3 -c "{attempt}" 2>&1 | tail -1')
        assert counted() == 0
