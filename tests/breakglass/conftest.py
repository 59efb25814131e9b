"""The world of :mod:`tests.breakglass.world`."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, User

from provisioning.models import GuestImage
from tenants.models import Tenant
from tests.breakglass.staff import Staff, maker
from tests.breakglass.world import World, build


@pytest.fixture
def make_colleague(make_user: Callable[..., User]) -> Staff:
    return maker(make_user)


@pytest.fixture
def world(tenant: Tenant, image: GuestImage, owner: User, operator: User, make_colleague: Staff) -> World:
    return build(tenant, image, owner, Group.objects.get(name="operators"), make_colleague)
