"""The workspace in a real guest: its kernel, its users, its seccomp filter, its encrypted volume."""

import io
import os
import tarfile
from urllib.parse import quote

import pytest

from provisioning.models import GuestImage, Host
from tenants.models import Tenant
from tests.e2e.members import Member
from tests.provisioning.workers import created

pytestmark = [pytest.mark.guest, pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]
BOOT_SECONDS = 400.0
FILES = "/v1/workspace/files?path="
ESCAPES = (
    "../agent/keys.json",
    "a/../../agent",
    "/etc/passwd",
    "//etc/passwd",
    "./a",
    "a//b",
    "proc/self/root/etc/passwd/..",
    "a\0b",
    "a/" * 3000,
)
LOOK_ALIKES = (
    "\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}\N{FULLWIDTH SOLIDUS}etc",
    "\N{ONE DOT LEADER}\N{ONE DOT LEADER}",
    "..\\agent",
    "%2e%2e%2fagent",
)
"""Names like any other: what is written to them stands in the workspace."""


def test_files_on_the_machines_own_volume(real_host: Host, real_image: GuestImage, tenant: Tenant) -> None:
    """Written, listed, resumed, archived and deleted; no path leads out of the workspace."""
    member = Member.sign_in(created(tenant, BOOT_SECONDS), real_host)
    content = os.urandom(3_000_000)
    assert member.post("/v1/workspace/folders", {"path": "src"}).status_code == 201
    assert member.ask("PUT", f"{FILES}src/data", content).status_code == 201
    assert member.ask("GET", f"{FILES}src/data").content == content
    part = member.ask("GET", f"{FILES}src/data", Range="bytes=2999990-")
    assert (part.status_code, part.content) == (206, content[2999990:])
    (found,) = member.ask("GET", "/v1/workspace/list?path=src").json()["entries"]
    assert (found["name"], found["size"]) == ("data", len(content))
    archive = member.ask("GET", "/v1/workspace/archive?path=src").content
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert [each.size for each in tar if each.isreg()] == [len(content)]

    for path in ESCAPES:
        for method, body in (("GET", b""), ("PUT", b"mine"), ("DELETE", b"")):
            answer = member.ask(method, FILES + quote(path, safe=""), body)
            assert answer.status_code in {400, 403, 404, 409, 414}, (method, path[:40], answer.status_code)
            assert b"root:" not in answer.content
    for name in LOOK_ALIKES:
        assert member.ask("PUT", FILES + quote(name, safe=""), b"mine").status_code == 201
    listed = member.ask("GET", "/v1/workspace").json()["entries"]
    assert {each["name"] for each in listed} == {"src", *LOOK_ALIKES}
    for name in LOOK_ALIKES:
        assert member.ask("DELETE", FILES + quote(name, safe="")).status_code == 200
    assert member.ask("DELETE", f"{FILES}src&recursive=1").status_code == 200
    assert member.ask("GET", "/v1/workspace").json()["entries"] == []
