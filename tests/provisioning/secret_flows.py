"""What tests of connector secrets do: put and revoke as an owner, carry operations out, look into the guest."""

import json
import shutil
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User

from audit.context import Actor, command
from audit.models import Entry
from guest.agent.keys import load_or_create_keys
from guest.agent.vault import Vault as GuestVault
from protocol.sealed import key_id, seal
from provisioning.models import Host, Operation, Runtime
from provisioning.services import operation_request
from tenants.models import ConnectorSecret
from tenants.services import secret_put, secret_revoke
from tests.provisioning.test_calls import client
from tests.provisioning.workers import drain

TESTER = command("test")
MARKER = b"ghp_marker-7f3a9c51e2d84b06"
Kind, State = Operation.Kind, Operation.State


def now(runtime: Runtime) -> Runtime:
    return Runtime.objects.select_related("tenant", "host", "image").get(pk=runtime.pk)


def put(runtime: Runtime, value: bytes = MARKER, name: str = "TOKEN", **given: Any) -> ConnectorSecret:
    """As the tenant's owner, sealed to the key that the portal shows."""
    public = bytes.fromhex(now(runtime).sealing_public_key)
    owner = User.objects.get(username="owner")
    defaults = {"connector": "github", "sealing_key": key_id(public), "sealed": seal(public, value)}
    return secret_put(actor=Actor.of(owner), tenant=runtime.tenant, name=name, **{**defaults, **given})


def revoke(runtime: Runtime, name: str = "TOKEN") -> ConnectorSecret:
    owner = User.objects.get(username="owner")
    return secret_revoke(actor=Actor.of(owner), tenant=runtime.tenant, name=name)


def asked(runtime: Runtime, kind: str = Kind.DELIVER, **given: Any) -> Operation:
    return operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind, **given)


def done(runtime: Runtime, kind: str = Kind.DELIVER, **given: Any) -> Operation:
    """Ask for an operation and carry it out."""
    finished = drain(asked(runtime, kind, **given))
    assert finished.state == State.SUCCEEDED, finished.error_message
    return finished


def opened(host: Host, tmp_path: Path, name: str = "TOKEN") -> bytes:
    """What the guest's own vault opens: read from a copy of its data folder."""
    (folder,) = Path(host.pool_path).rglob(f"data/{Runtime.objects.get().pk}")
    copy = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.sock"))
    return GuestVault(copy, load_or_create_keys(copy)).open_secret(name)


def states(name: str = "TOKEN") -> list[str]:
    found = ConnectorSecret.objects.filter(name=name).order_by("version")
    return [secret.state for secret in found]


def noted(action: str) -> list[Any]:
    return [json.loads(row.event)["data"] for row in Entry.objects.filter(action=action).order_by("pk")]


def bring(runtime: Runtime, secret: ConnectorSecret, sealed: bytes) -> None:
    import base64

    client(now(runtime)).deliver_secret(
        name=secret.name,
        version=secret.version,
        key_id=secret.sealing_key,
        sealed=base64.b64encode(sealed).decode(),
    )
