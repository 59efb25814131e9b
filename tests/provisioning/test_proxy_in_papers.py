"""What a guest's papers say of the way out: its own end of its own link, where its host has a proxy."""

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from protocol.enrolment import Personalisation
from provisioning.enrolment import personalisation
from provisioning.models import GuestImage, Host, Runtime
from provisioning.services import runtime_create
from tenants.models import Tenant
from tests.conftest import TESTER


@pytest.fixture
def runtime(make_host: Callable[..., Host], image: GuestImage, tenant: Tenant) -> Runtime:
    host = make_host()
    assert not image.retired
    made = runtime_create(actor=TESTER, tenant=tenant).runtime
    made.host = host
    return made


def told(runtime: Runtime) -> Personalisation:
    return Personalisation.from_bytes(personalisation(runtime, None).to_bytes())


def test_a_host_with_a_proxy(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """The proxy listens where the guest's link ends, on the fleet's port."""
    monkeypatch.setattr(runtime.host, "egress_path", "/var/lib/egress", raising=False)
    settings.EGRESS_PORT = 3199
    papers = told(runtime)
    assert papers.proxy == f"{papers.host_address}:3199"
    near, far = map(ipaddress.ip_address, (papers.host_address, papers.guest_address))
    assert int(near) + 1 == int(far)


def test_a_host_without_one(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no way out, and the papers say so; the same before a host is chosen."""
    monkeypatch.setattr(runtime.host, "egress_path", "", raising=False)
    assert told(runtime).proxy is None
    runtime.host = None
    assert told(runtime).proxy is None
