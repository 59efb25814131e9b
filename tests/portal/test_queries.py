"""The number of queries of each list, pinned in queries.json; it does not grow with the rows.

After a change that is meant: write the new figure there and say in the commit why.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.context import Actor
from provisioning.models import EgressRecord, Host
from tenants.models import Membership
from tenants.services import key_register, membership_add, secret_put
from tests.portal.conftest import SEALED, TESTER, Kind, Place, State, World, device_of, make_operation

pytestmark = pytest.mark.django_db
PINNED: dict[str, dict[str, int]] = json.loads((Path(__file__).parent / "queries.json").read_text())


def grow(make_place: Callable[..., Place], make_host: Callable[..., Host], world: World) -> None:
    """To five tenants, each with a machine on its own host, more operations and more entries."""
    for slug in ("birch", "cedar", "daisy"):
        place = make_place(slug)
        place.runtime.host = make_host(name=slug)
        place.runtime.save()
        for _ in range(3):
            make_operation(place.runtime, Kind.RESTART, State.SUCCEEDED, requested_by=world.people["owner"])
        membership_add(
            actor=TESTER, tenant=place.tenant, user=world.people["half staff"], role=Membership.Role.MEMBER
        )
    for place in (world.mine, world.other):
        for _ in range(3):
            make_operation(place.runtime, Kind.STOP, State.SUCCEEDED, requested_by=world.people["member"])
    make_operation(world.other.runtime, Kind.RESTART, State.RUNNING, done=1)
    for place in (world.mine, world.other):
        EgressRecord.objects.bulk_create(
            EgressRecord(
                tenant=place.tenant,
                runtime=place.runtime,
                at=timezone.now(),
                host=f"h{number}.example.com",
                port=443,
                verdict="allowed",
            )
            for number in range(60)
        )
    for number in range(5):
        secret_put(
            actor=Actor.of(world.people["owner"]),
            tenant=world.mine.tenant,
            name=f"TOKEN_{number}",
            connector="github",
            sealing_key="0" * 16,
            sealed=SEALED,
        )
        key_register(
            actor=Actor.of(world.people["member"]),
            tenant=world.mine.tenant,
            kind="device",
            public_key=device_of(f"member's {number}").key.public_key,
            name=f"Key {number}",
        )


def counted(world: World, role: str, url: str) -> int:
    client = world.client(role)
    url = url.replace("{ticket}", str(world.mine.ticket.pk))
    client.get(url)  # content types and the like are looked up once a process
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = client.get(url)
    assert response.status_code == 200, url
    return len(queries)


@pytest.mark.parametrize(("role", "url"), [(role, url) for role, pins in PINNED.items() for url in pins])
def test_lists_ask_as_often_for_five_tenants_as_for_two(
    world: World, make_place: Callable[..., Place], make_host: Callable[..., Host], role: str, url: str
) -> None:
    """The pinned figure, with two tenants and with five."""
    few = counted(world, role, url)
    grow(make_place, make_host, world)
    many = counted(world, role, url)
    assert (few, many) == (PINNED[role][url], PINNED[role][url])
