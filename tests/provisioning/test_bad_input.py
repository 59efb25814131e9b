"""What goes wrong on a host ends in a clear reason, with nothing left behind and nothing reserved."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.context import command
from provisioning.fleet import audit_fleet
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.services import runtime_create
from tenants.models import Tenant
from tests.provisioning.workers import drain, move

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")


@pytest.fixture
def operation(simulated_host: Host, tenant: Tenant, image: GuestImage) -> Operation:
    return runtime_create(actor=TESTER, tenant=tenant)


@pytest.fixture(autouse=True)
def nothing_left(simulated_host: Host) -> Iterator[None]:
    """After every test here: undone, given back, no orphan."""
    yield
    move(Host.objects.get(pk=simulated_host.pk), "test+unix:///default")
    runtime = Runtime.objects.get(tenant__slug="acme")
    assert (runtime.phase, runtime.reserved, runtime.host) == ("failed", False, None)
    assert audit_fleet() == []


def failed(operation: Operation) -> str:
    assert drain(operation).state == Operation.State.FAILED
    return f"{operation.error_code}: {operation.error_message}"


def test_a_missing_image(operation: Operation, image: GuestImage) -> None:
    """Names the file."""
    (Path(image.directory) / "root.img").unlink()
    assert "root.img" in failed(operation)
    assert operation.error_code == "image_missing"


def test_a_wrong_hash(operation: Operation, image: GuestImage) -> None:
    """A changed image is never booted."""
    with (Path(image.directory) / "initrd.img").open("ab") as file:
        file.write(b"!")
    assert "initrd.img" in failed(operation)
    assert operation.error_code == "image_corrupt"


def test_libvirtd_down(operation: Operation, simulated_host: Host) -> None:
    """Retried, then given up with the reason."""
    move(simulated_host, "test+unix:///default?socket=/nonexistent/libvirt-sock")
    assert failed(operation).startswith("host_unreachable")


def test_an_agent_that_never_answers(
    operation: Operation, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Says how long it waited."""
    settings.BOOT_TIMEOUT_SECONDS = 1.0
    monkeypatch.setattr("provisioning.runtime_client.RuntimeClient.listening", lambda self: False)
    assert "did not answer within 1 s" in failed(operation)


def test_a_host_that_shrank(operation: Operation) -> None:
    """A machine that waits for room, and that no host can hold any more, fails; it does not wait for ever."""
    Runtime.objects.update(host=None)
    Host.objects.update(memory_mib=100)
    assert failed(operation).startswith("plan_too_large")
