"""A real guest's life: created, reached over mutual TLS, stopped, rebuilt, deleted, and killed under way."""

import json
import signal
import subprocess
import time
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User

from audit.context import Actor, command
from guest.agent.gate import ACCESS, MEMBERS_ONLY
from guest.agent.sessions import Request, request_document
from protocol.enrolment import runtime_dns_name
from protocol.persons import Purpose
from protocol.sealed import SealError, key_id, seal, unseal
from protocol.tokens import body_hash, sign
from provisioning import enrolment
from provisioning.driver import connect
from provisioning.fleet import audit_fleet
from provisioning.fleet_keys import token_seed
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.runtime_client import AgentRefused, RuntimeClient
from provisioning.services import operation_request, runtime_create
from provisioning.specs import host_spec, runtime_spec
from provisioning.wrapping import unwrap
from tenants.models import Tenant
from tenants.services import secret_put
from tenants.services.secret_states import secret_open
from tenants.tenant_keys import _private as tenant_private
from tests.guest.boxes import CANARY, traces
from tests.protocol.people import OWNER, STRANGER, entry, keyring
from tests.provisioning.workers import drain, let_lease_lapse, run_in_child

pytestmark = [pytest.mark.guest, pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]
TESTER = command("test")
Kind, State, Phase = Operation.Kind, Operation.State, Runtime.Phase
BOOT_SECONDS = 400.0


def ask(runtime: Runtime, kind: str) -> Runtime:
    asked = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind, reason="because of a test")
    done = drain(asked, BOOT_SECONDS)
    assert done.state == State.SUCCEEDED, done.error_message
    runtime.refresh_from_db()
    return runtime


def command_lines() -> bytes:
    """Every process's command line on this machine, as `ps` would show it."""
    return b"\n".join(p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists())


def left_on(host: Host) -> set[object]:
    with connect(host_spec(host)) as driver:
        found = driver.inventory()
    return set().union(
        found.domains, found.networks, found.filters, found.volumes, found.personalisations, found.secrets
    )


def test_a_whole_life(real_host: Host, real_image: GuestImage, tenant: Tenant) -> None:
    """Create, stop, rebuild and delete; the guest keeps its keys until the volume's key is destroyed."""
    done = drain(runtime_create(actor=TESTER, tenant=tenant), BOOT_SECONDS)
    assert done.state == State.SUCCEEDED, done.error_message
    runtime = Runtime.objects.get()
    said = RuntimeClient.dial(runtime).status()
    assert (said["runtime_id"], said["tenant_id"]) == (str(runtime.pk), str(tenant.pk))
    assert said["image_version"] == real_image.version
    assert said["data_volume"]["size_bytes"] > 0
    assert audit_fleet() == []

    assert runtime.volume_key is not None
    passphrase = unwrap(runtime.volume_key, identity=f"runtime/{runtime.pk}/volume_key")
    assert passphrase not in command_lines(), "rule 3: the process list shows the volume's passphrase"

    sealing, boot = said["sealing_public_key"], said["boot_id"]
    assert ask(runtime, Kind.STOP).phase == Phase.STOPPED
    assert audit_fleet() == []
    assert ask(runtime, Kind.REBUILD).phase == Phase.READY
    again = RuntimeClient.dial(runtime).status()
    assert (again["sealing_public_key"], again["boot_id"] != boot) == (sealing, True)

    volume = Path(real_host.pool_path) / f"rt-{runtime.pk}.qcow2"
    described = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", str(volume)], capture_output=True, text=True, check=True
    ).stdout
    assert '"format": "luks"' in described.replace("encrypt.format", "format")
    ask(runtime, Kind.DELETE)
    assert left_on(real_host) == set()
    assert not volume.exists()


def door(runtime: Runtime, host: Host, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """One request with everything that the control plane holds: its certificate, and a perfect token."""
    with connect(host_spec(host)) as driver:
        address, port = driver.endpoint(runtime_spec(runtime))
    portal = RuntimeClient(runtime, address, port)
    content = b"" if body is None else json.dumps(body).encode()
    text = sign(portal._token(method, path, content), token_seed())
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client(verify=portal._context(verified=True), timeout=30, trust_env=False) as client:
        return client.request(
            method,
            f"https://{address}:{port}{path}",
            content=content,
            headers={"Authorization": f"Bearer {text}", **named},
            extensions={"sni_hostname": runtime_dns_name(str(runtime.pk))},
        )


def opens_no_secret(runtime: Runtime, owner: User) -> None:
    """Not one of an owner's secrets: not by a row, not by a key, not by what any route answers."""
    portal, public = RuntimeClient.dial(runtime), bytes.fromhex(runtime.sealing_public_key)
    secret = secret_put(
        actor=Actor.of(owner),
        tenant=runtime.tenant,
        name="TOKEN",
        connector="github",
        sealing_key=key_id(public),
        sealed=seal(public, CANARY),
    )
    done = drain(operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.DELIVER))
    assert done.state == State.SUCCEEDED, done.error_message
    secret.refresh_from_db()
    first = portal.export_secret("TOKEN")
    rotated = portal.rotate_sealing_key(key_id(public))
    told = [first, rotated, portal.export_secret("TOKEN"), portal.secrets(), portal.status()]
    for trace in traces(CANARY):
        assert trace not in json.dumps(told).encode()
    boxes = [secret_open(secret), *(b64decode(each["sealed"]) for each in told if "sealed" in each)]
    assert len(boxes) == 3
    assert secret.tenant_key is not None
    mine = [
        settings.WRAPPING_KEY,
        settings.ROUTE_KEY,
        token_seed(),
        sha256(settings.SECRET_KEY.encode()).digest(),
    ]
    mine += [tenant_private(secret.tenant_key).private_bytes_raw()]
    for key in mine:
        for box in boxes:
            with pytest.raises(SealError):
                unseal(key, box)


def test_the_stolen_portal(real_host: Host, real_image: GuestImage, tenant: Tenant, owner: User) -> None:
    """All that web and worker hold gets not one byte of content; an owner's key does, until suspended.

    This process has the whole database, the wrapping key, the token key and the client's certificate, and it
    reaches the guest's port: the thief could have no more. The walk grows with the table of routes.
    """
    done = drain(runtime_create(actor=TESTER, tenant=tenant), BOOT_SECONDS)
    assert done.state == State.SUCCEEDED, done.error_message
    runtime = Runtime.objects.get()
    portal = RuntimeClient.dial(runtime)
    document = keyring(str(tenant.pk), entry(OWNER.key))
    portal.deliver_keyring(document, OWNER.sign(Purpose.KEYRING, document))

    for (method, path), access in ACCESS.items():
        if access in MEMBERS_ONLY:
            for name in ("", "guess" * 8):
                asked = path.replace("{tail}", "index.html")
                refused = door(runtime, real_host, method, asked, Portal_Session=name, Portal_Proof="1.AA")
                assert (refused.status_code, refused.json()["error"]) == (403, "session_required")
    # The thief's own keyring, and the owner's with another member slipped in, are not taken.
    for members in ([entry(STRANGER.key)], [entry(OWNER.key), entry(STRANGER.key)]):
        forged = {**keyring(str(tenant.pk), *members), "version": 2, "previous": None}
        with pytest.raises(AgentRefused):
            portal.deliver_keyring(forged, STRANGER.sign(Purpose.KEYRING, forged))
    challenge = door(runtime, real_host, "POST", "/v1/sessions/challenge").json()
    stolen = {**STRANGER.sign(Purpose.SESSION, challenge), "nonce": challenge["nonce"]}
    refused = door(runtime, real_host, "POST", "/v1/sessions", {"signature": stolen})
    assert (refused.status_code, refused.json()["error"]) == (403, "not_a_member")

    challenge = door(runtime, real_host, "POST", "/v1/sessions/challenge").json()
    signature = {**OWNER.sign(Purpose.SESSION, challenge), "nonce": challenge["nonce"]}
    session = door(runtime, real_host, "POST", "/v1/sessions", {"signature": signature}).json()["session"]

    def listing(counter: int) -> Any:
        asked = Request("GET", "/v1/workspace", body_hash(b""))
        made = OWNER.sign(Purpose.REQUEST, request_document(session, asked, counter))["signature"]
        headers = {"Portal_Session": session, "Portal_Proof": f"{counter}.{made}"}
        return door(runtime, real_host, "GET", "/v1/workspace", **headers)

    assert listing(1).json() == {"entries": [], "complete": True}
    opens_no_secret(runtime, owner)
    began = time.monotonic()
    portal.set_suspended(True)
    assert listing(2).json()["error"] == "suspended"
    assert time.monotonic() - began < 5, "the owner is cut off within five seconds (issue 3)"


def test_the_one_time_secret_is_spent(real_host: Host, real_image: GuestImage, tenant: Tenant) -> None:
    """It never stands on a command line, and after enrolment neither in the database nor in the papers."""
    operation = runtime_create(actor=TESTER, tenant=tenant)
    secrets: list[bytes] = []

    def spy(runtime: Runtime) -> None:
        assert runtime.enrolment_secret is not None
        secrets.append(unwrap(runtime.enrolment_secret, identity=f"runtime/{runtime.pk}/enrolment_secret"))

    original = enrolment.enrol

    def enrol(client: Any, runtime: Runtime, secret: bytes) -> Any:
        spy(runtime)
        assert secret.hex().encode() not in command_lines(), "rule 3: the secret is in the process list"
        return original(client, runtime, secret)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enrolment, "enrol", enrol)
        assert drain(operation, BOOT_SECONDS).state == State.SUCCEEDED
    runtime = Runtime.objects.get()
    assert runtime.enrolment_secret is None
    papers = (Path(real_host.pool_path) / f"rt-{runtime.pk}.credential").read_bytes()
    assert secrets
    assert secrets[0].hex().encode() not in papers


@pytest.mark.parametrize(
    "point",
    [
        "secret.set_value:after",
        "volume.create:during",
        "personalisation.upload:during",
        "network.start:during",
        "filter.define:after",
        "domain.start:during",
        "step.enrol:after",
    ],
)
def test_killed_while_creating(
    point: str,
    real_host: Host,
    real_image: GuestImage,
    tenant: Tenant,
    children_environment: dict[str, str],
) -> None:
    """Kill -9 in the middle of a call to the real hypervisor: the next worker ends with a ready guest."""
    operation = runtime_create(actor=TESTER, tenant=tenant)
    delay = "kill:300" if point == "volume.create:during" else "kill"
    assert run_in_child(operation, children_environment, f"{point}={delay}") == -signal.SIGKILL
    let_lease_lapse(operation.pk)
    done = drain(operation, BOOT_SECONDS)
    assert done.state == State.SUCCEEDED, done.error_message
    assert audit_fleet() == []


@pytest.mark.parametrize("point", ["domain.destroy:during", "filter.undefine:during", "volume.delete:after"])
def test_killed_while_undoing(
    point: str,
    real_host: Host,
    real_image: GuestImage,
    tenant: Tenant,
    children_environment: dict[str, str],
) -> None:
    """A guest that does not answer in time is undone, through a kill -9 in the middle; nothing is left."""
    operation = runtime_create(actor=TESTER, tenant=tenant)
    impatient = {**children_environment, "PORTAL_BOOT_TIMEOUT_SECONDS": "0.2"}
    assert run_in_child(operation, impatient, f"{point}=kill") == -signal.SIGKILL
    let_lease_lapse(operation.pk)
    assert drain(operation, BOOT_SECONDS).state == State.FAILED
    assert operation.error_code == "guest_silent"
    assert left_on(real_host) == set()
    assert audit_fleet() == []
