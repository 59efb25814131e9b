"""The world of :mod:`tests.breakglass.world`, and machines with people around them."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, User

from breakglass.models import ApproverSetVersion
from provisioning.models import GuestImage, Host
from tenants.models import Tenant
from tests.breakglass.access import Staffed, staffed
from tests.breakglass.staff import Colleague, Staff, maker, put_in_force
from tests.breakglass.world import World, build
from tests.provisioning.workers import created


@pytest.fixture
def make_colleague(make_user: Callable[..., User]) -> Staff:
    return maker(make_user)


@pytest.fixture
def world(tenant: Tenant, image: GuestImage, owner: User, operator: User, make_colleague: Staff) -> World:
    return build(tenant, image, owner, Group.objects.get(name="operators"), make_colleague)


@pytest.fixture
def people(
    simulated_host: Host, tenant: Tenant, owner: User, image: GuestImage, make_user: Callable[..., User]
) -> Staffed:
    """With a machine that runs: a real agent on the simulated engine."""
    found = staffed(tenant, owner, make_user)
    created(tenant)
    return found


@pytest.fixture
def anna(make_colleague: Staff) -> Colleague:
    """May do all that staff may."""
    return make_colleague("anna", is_superuser=True)


@pytest.fixture
def first(anna: Colleague) -> ApproverSetVersion:
    """A set of hers alone, in force."""
    return put_in_force([anna], [anna])
