"""A guest that says it is open to a ticket that is over here is told again; nothing that it says does harm."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from breakglass import grants, pushing, strays
from breakglass.models import Ticket
from breakglass.pacing import Pace
from breakglass.services import ticket_withdraw
from provisioning import usage
from provisioning.models import GuestImage, Host, Runtime
from provisioning.runtime_client import RuntimeClient
from tenants.models import Tenant
from tests.breakglass.access import Staffed, staffed
from tests.breakglass.world import World
from tests.provisioning.workers import created


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("look", [usage.observe, lambda runtime: pushing.apply(runtime.pk)])
def test_a_grant_that_somebody_else_brought(
    look: Callable[[Runtime], None],
    simulated_host: Host,
    tenant: Tenant,
    owner: User,
    image: GuestImage,
    make_user: Callable[..., User],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end did not reach the guest, though the row says so (a volume that was set back looks the same)."""
    monkeypatch.setattr(grants, "PACE", Pace())
    monkeypatch.setattr("celery.current_app.send_task", lambda *args, **given: None)
    people: Staffed = staffed(tenant, owner, make_user)
    created(tenant)
    ticket, going_on = people.approved(people.asked()), people.begun()
    grants.apply(going_on.pk)
    client = RuntimeClient.urgent(ticket.runtime)
    client.deliver_grant(grants.grant_of(ticket).to_document())
    ticket_withdraw(actor=people.greta.actor, ticket=ticket)
    assert sorted(client.status()["grants"]) == sorted([str(ticket.pk), str(going_on.pk)])
    look(Ticket.objects.get(pk=ticket.pk).runtime)
    assert client.status()["grants"] == [str(going_on.pk)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, 0),
        ("all", 0),
        ({"a": 1}, 0),
        ([None, 7, "no ticket", ["x"]], 0),
        ([str(uuid.uuid4()) for _ in range(500)], strays.MOST),
    ],
)
def test_what_a_hostile_guest_may_say(
    world: World, monkeypatch: pytest.MonkeyPatch, said: Any, told: int
) -> None:
    """It is told of nothing but what it named, and of no more than an honest one could have."""
    ended: list[str] = []
    monkeypatch.setattr(RuntimeClient, "end_grant", lambda client, ticket: ended.append(ticket))
    client = RuntimeClient(world.runtime, "192.0.2.2", 8443)
    strays.end(world.runtime, {"grants": said}, client)
    assert len(ended) == told
