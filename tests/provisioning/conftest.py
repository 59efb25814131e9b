"""Fixtures of the provisioning tests."""

import pytest
from django.contrib.auth.models import User

from provisioning.models import GuestImage, Host, Runtime
from tenants.models import Tenant
from tests.net import net
from tests.provisioning.workers import created

__all__ = ["net"]


@pytest.fixture
def runtime(simulated_host: Host, tenant: Tenant, image: GuestImage) -> Runtime:
    """A ready runtime whose agent runs."""
    return created(tenant)


@pytest.fixture
def owned(runtime: Runtime, owner: User) -> Runtime:
    """The same, of a tenant that has an owner."""
    return runtime
