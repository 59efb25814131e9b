"""Driving operations in tests: in this process, or in one that is killed."""

import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

from django.utils import timezone

from audit.context import command
from provisioning import machine
from provisioning.models import Host, Operation, Runtime
from provisioning.seals import seal
from provisioning.services import runtime_create
from tenants.models import Tenant

ROOT = Path(__file__).resolve().parents[2]


def drain(operation: Operation, seconds: float = 60) -> Operation:
    """Run the operation here until it ends. Waits between attempts are skipped, not slept through."""
    deadline = time.monotonic() + seconds
    while True:
        machine.run(operation.pk)
        operation.refresh_from_db()
        if not operation.active:
            return operation
        assert time.monotonic() < deadline, f"still {operation.state}: {operation.wait_reason}"
        Operation.objects.filter(pk=operation.pk).update(not_before=None)
        time.sleep(0.02)


def created(tenant: Tenant, seconds: float = 60) -> Runtime:
    """The tenant's runtime, made and ready within ``seconds``."""
    done = drain(runtime_create(actor=command("test"), tenant=tenant), seconds)
    assert done.state == Operation.State.SUCCEEDED, done.error_message
    return Runtime.objects.get()


def run_in_child(operation: Operation, environment: dict[str, str], fault: str = "") -> int:
    """Run the operation in a process of its own, armed with ``fault``; returns its exit code."""
    code = (
        "import django, sys, uuid; django.setup(); from provisioning import machine; "
        "machine.run(uuid.UUID(sys.argv[1]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(operation.pk)],
        cwd=ROOT,
        env={**environment, "PORTAL_FAULT": fault},
        capture_output=True,
        timeout=240,
        check=False,
    ).returncode


def let_lease_lapse(operation_id: uuid.UUID) -> None:
    """Move the lease into the past, as if its time had gone by."""
    Operation.objects.filter(pk=operation_id).update(lease_until=timezone.now() - timedelta(seconds=1))


def move(host: Host, uri: str) -> None:
    """Register ``host`` at another address, sealed as a registration seals it."""
    moved = Host.objects.get(pk=host.pk)
    moved.uri = uri
    moved.seal = seal(moved)
    moved.save()
