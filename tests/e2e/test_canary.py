"""One secret takes every way there is, to a real guest and back out of it; then the whole host is searched for it."""

import base64
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from nacl.public import PublicKey, SealedBox

from provisioning.models import GuestImage, Host, Operation, Runtime
from tenants.models import ConnectorSecret, Plan, Tenant
from tests.e2e.conftest import Portal
from tests.e2e.members import Member
from tests.e2e.test_gateway import MODEL, agree, say, until
from tests.e2e.test_jobs import Worker
from tests.guest.boxes import traces
from tests.portal.test_browser import PASSWORD
from tests.provisioning.test_delivery import wait_until
from tests.provisioning.workers import ROOT, created

pytestmark = [
    pytest.mark.guest,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(2400),
]
BOOT_SECONDS = 400.0
NAME = "GITHUB_TOKEN"
State = ConnectorSecret.State
LIBVIRT = (Path("/etc/libvirt"), Path("/var/log/libvirt"), Path("/run/libvirt"), Path("/var/lib/libvirt"))


class Search:
    """Looks for the marker, and counts how much it has seen."""

    def __init__(self, marker: bytes) -> None:
        self.forms = traces(marker)
        self.hits: list[str] = []
        self.seen: dict[str, int] = {}

    def look(self, where: str, data: bytes) -> None:
        self.seen[where.partition(":")[0]] = self.seen.get(where.partition(":")[0], 0) + len(data)
        self.hits += [f"{where} (form {number})" for number, form in enumerate(self.forms) if form in data]

    def files(self, kind: str, folder: Path) -> None:
        """All files below ``folder``, read by another process: one that closes SQLite's file drops its locks."""
        grep = ["grep", "-r", "-l", "-a", "-F", "--devices=skip", "--null", "-f", "-", str(folder)]
        wanted = b"\n".join(self.forms)
        found = subprocess.run(grep, input=wanted, capture_output=True, timeout=300, check=False)
        assert found.returncode in {0, 1, 2}, found.stderr  # 2: a socket, or a file that went meanwhile
        self.hits += [f"{kind}: {name}" for name in found.stdout.decode().split("\0") if name]
        self.seen[kind] = self.seen.get(kind, 0) + sum(1 for path in folder.rglob("*") if path.is_file())

    def processes(self) -> None:
        """Every process's arguments and environment."""
        for folder in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    self.look(f"{name}: {folder.name}", (folder / name).read_bytes())
                except OSError:
                    continue

    def broker(self) -> None:
        """Every key and value in Redis: messages are task arguments."""
        store = redis.Redis.from_url(settings.REDIS_URL)
        readers: dict[str, Callable[[bytes], Any]] = {
            "b'string'": store.get,
            "b'list'": lambda key: store.lrange(key, 0, -1),
            "b'set'": store.smembers,
            "b'hash'": store.hgetall,
            "b'zset'": lambda key: store.zrange(key, 0, -1),
        }
        for key in store.scan_iter():
            kind = repr(store.type(key))
            self.look("redis: key", key)
            value = repr(readers[kind](key)).encode()
            self.look(f"redis: {key!r}", value)
            # Celery's messages carry their arguments in base64.
            for coded in re.findall(rb"[A-Za-z0-9+/]{24,}={0,2}", value):
                with_padding = coded + b"=" * (-len(coded) % 4)
                self.look(f"redis: {key!r} decoded", base64.b64decode(with_padding))

    def rows(self) -> None:
        """Every column of every row, the audit's entries among them."""
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names(cursor):
                cursor.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - names from the database itself
                for row in cursor.fetchall():
                    for value in row:
                        data = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                        self.look(f"rows: {table}", data)

    def libvirt(self, uri: str) -> None:
        """All that libvirt tells of its objects, and its own files and logs."""
        import libvirt

        with_secrets = libvirt.VIR_DOMAIN_XML_SECURE
        link = libvirt.open(uri)
        try:
            for domain in link.listAllDomains():
                for flags in (0, with_secrets, libvirt.VIR_DOMAIN_XML_INACTIVE):
                    self.look("libvirt: domain", domain.XMLDesc(flags).encode())
            for each in (*link.listAllNetworks(), *link.listAllNWFilters(), *link.listAllSecrets()):
                self.look("libvirt: object", each.XMLDesc(0).encode())
        finally:
            link.close()
        for folder in LIBVIRT:
            self.files("libvirt files", folder)


class Owner:
    """The tenant's owner as a program: signs in, and calls the API through nginx."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        page = portal.ask("portal.localhost", "GET", "/sign-in/")
        self._cookies = dict(page.cookies)
        self.answers: list[httpx.Response] = [page]
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token
        form = {"csrfmiddlewaretoken": token[1], "username": "owner", "password": PASSWORD}
        signed = portal.ask("portal.localhost", "POST", "/sign-in/", data=form, headers=self._headers())
        assert signed.status_code == 302, signed.text
        self._cookies |= dict(signed.cookies)

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One call; its answer is kept for the search."""
        answer = self._portal.ask("portal.localhost", method, path, json=body, headers=self._headers())
        self.answers.append(answer)
        return answer

    def _headers(self) -> dict[str, str]:
        return {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items()),
            "X-CSRFToken": self._cookies.get("__Host-csrf", ""),
            "Origin": self._portal.base,
            "Referer": self._portal.base + "/",
        }

    def put(self, value: bytes) -> None:
        """As the API's document has it: ask for the key, seal, send."""
        told = self.call("GET", "/api/v1/tenants/acme/secrets/public-key/").json()
        sealed = SealedBox(PublicKey(base64.b64decode(told["key"]))).encrypt(value)
        body = {"encrypted_value": base64.b64encode(sealed).decode(), "key_id": told["key_id"]}
        answer = self.call("PUT", f"/api/v1/tenants/acme/secrets/{NAME}/", body)
        assert answer.status_code in {200, 201}, answer.text


@contextmanager
def workers(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """A worker and a beat as processes, with their logs in ``folder``."""
    celery = [sys.executable, "-m", "celery", "-A", "portal"]
    commands = {
        "worker": [*celery, "worker", "--concurrency", "1", "--loglevel", "DEBUG"],
        "beat": [
            *celery,
            "beat",
            "--schedule",
            str(folder / "schedule"),
            "--pidfile=",
            "--loglevel",
            "DEBUG",
        ],
    }
    processes = []
    for name, argv in commands.items():
        log = (folder / f"{name}.log").open("wb")
        processes.append(
            subprocess.Popen(
                argv,
                cwd=ROOT,
                env={**environment, "PORTAL_SWEEP_SECONDS": "1", "LOG_LEVEL": "DEBUG"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )
    try:
        yield
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def newest() -> str:
    return str(
        ConnectorSecret.objects.filter(name=NAME).order_by("-version").values_list("state", flat=True)[0]
    )


def test_the_canary(
    real_host: Host,
    real_image: GuestImage,
    tenant: Tenant,
    owner: User,
    portal: Portal,
    children_environment: dict[str, str],
    tmp_path: Path,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Put, delivered, used by the gateway, sealed anew, replaced, refused and revoked; found nowhere on the host."""
    caplog.set_level("DEBUG")
    Plan.objects.update(memory_mib=2048, disk_gib=2)
    tenant.refresh_from_db()
    runtime = created(tenant, BOOT_SECONDS)
    marker = b"ghp_" + secrets.token_hex(18).encode()
    search, person = Search(marker), Owner(portal)
    person.put(marker)
    search.broker()
    logs = tmp_path / "logs"
    logs.mkdir()
    with workers(children_environment, logs):
        wait_until(lambda: newest() == State.HELD, 120)
        use(runtime, real_host, marker)
        person.call("POST", f"/api/v1/runtimes/{runtime.pk}/operations/", {"kind": "reseal"})
        wait_until(lambda: ended(Operation.Kind.RESEAL), 120)
        person.put(marker + b" the second")
        wait_until(lambda: newest() == State.HELD, 120)
        stray(person, marker)
        look_around(search, real_host)
        person.call("DELETE", f"/api/v1/tenants/acme/secrets/{NAME}/")
        wait_until(lambda: newest() == State.REVOKED, 120)
    look_around(search, real_host)
    search.files("logs", logs)
    search.look("logs: this process", caplog.text.encode())
    for answer in person.answers:
        search.look(f"answers: {answer.url}", answer.content + repr(answer.headers.raw).encode())
    kinds = {"logs", "answers", "redis", "rows", "libvirt", "libvirt files", "cmdline", "environ", "state"}
    assert {kind for kind, size in search.seen.items() if size} == kinds
    assert search.hits == []


def use(runtime: Runtime, host: Host, marker: bytes) -> None:
    """The gateway gets it as its model's key and proves that; a tenant's job looks for it in all it can read."""
    member = Member.sign_in(runtime, host)
    chosen = member.ask("PUT", "/v1/gateway/model", json.dumps({"model": {**MODEL, "secret": NAME}}).encode())
    assert chosen.status_code == 200, chosen.text
    agree(member, 1)
    assert member.post("/v1/gateway/start", {}).status_code == 202
    until(member, "ready")
    assert sha256(marker).hexdigest() in say(member, "key?")
    worker = Worker(member)
    first, rest = marker[:12].decode(), marker[12:].decode()
    # Put together where it is used, so that the job's own words do not hold it.
    job = worker.script(f"""
        import os, pathlib
        wanted = {first!r}.encode() + {rest!r}.encode()
        seen = found = 0
        for top in ("/etc", "/opt/agent", "/proc", "/run", "/tmp", "/usr/lib/portal", "/var"):
            for folder, _, names in os.walk(top, onerror=lambda error: None):
                for name in names:
                    path = pathlib.Path(folder, name)
                    try:
                        if path.is_symlink() or not (path.is_file() and path.stat().st_size < 1 << 22):
                            continue
                        data = path.open("rb").read(1 << 22)
                    except OSError:
                        continue
                    seen += 1
                    found += wanted in data
        print("seen", seen > 100, "found", found)
    """)
    assert worker.until(job, seconds=240)["state"] == "succeeded"
    assert b"seen True found 0" in worker.output(job)


def stray(person: Owner, marker: bytes) -> None:
    """A careless person sends the clear text: as the box, as JSON of another shape, in a form, as a key's id."""
    path = f"/api/v1/tenants/acme/secrets/{NAME}/"
    clear = marker.decode()
    for body in (
        {"encrypted_value": clear, "key_id": "0" * 16},
        {"encrypted_value": base64.b64encode(marker).decode(), "key_id": "0" * 16},
        {"value": clear},
        {"encrypted_value": {"value": clear}, "key_id": clear},
        [clear],
        clear,
    ):
        answer = person.call("PUT", path, body)
        assert 400 <= answer.status_code < 500, answer.text


def look_around(search: Search, host: Host) -> None:
    """Everywhere but in this process's own memory."""
    search.broker()
    search.rows()
    search.libvirt(host.uri)
    search.processes()
    search.files("state", Path(settings.STATE_DIR))


def ended(kind: str) -> bool:
    found = Operation.objects.filter(kind=kind).first()
    assert found is None or found.state not in {Operation.State.FAILED, Operation.State.CANCELLED}, found
    return found is not None and found.state == Operation.State.SUCCEEDED
