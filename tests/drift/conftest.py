"""Fixtures of the drift tests: a ready runtime on the simulated engine, and hands that change it from outside."""

from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from provisioning.driver import naming
from provisioning.models import GuestImage, Host, Runtime
from tenants.models import Tenant
from tests.provisioning.workers import created


@pytest.fixture
def runtime(simulated_host: Host, tenant: Tenant, image: GuestImage) -> Runtime:
    return created(tenant)


@pytest.fixture
def raw(simulated_host: Host) -> Iterator[libvirt.virConnect]:
    """libvirt itself, as somebody with its socket has it."""
    connection = libvirt.open(simulated_host.uri)
    yield connection
    connection.close()


@pytest.fixture
def redefine(raw: libvirt.virConnect, runtime: Runtime) -> Callable[[str, str], None]:
    """Change the machine's definition behind the portal's back, mark and all else kept.

    The test driver changes a running machine only at its next start, so it is what would start that changes.
    """

    def change(old: str, new: str) -> None:
        domain = raw.lookupByName(naming.domain_name(runtime.pk))
        text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert old in text
        raw.defineXML(text.replace(old, new, 1))

    return change


@pytest.fixture
def rules(simulated_host: Host, runtime: Runtime) -> Path:
    """Where the simulated engine keeps the packet filter."""
    return Path(simulated_host.pool_path) / "filters" / f"{runtime.pk}.xml"
