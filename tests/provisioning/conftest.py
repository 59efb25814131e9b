"""Fixtures of the provisioning tests."""

import pytest

from provisioning.models import GuestImage, Host, Runtime
from tenants.models import Tenant
from tests.provisioning.workers import created


@pytest.fixture
def runtime(simulated_host: Host, tenant: Tenant, image: GuestImage) -> Runtime:
    """A ready runtime whose agent runs."""
    return created(tenant)
