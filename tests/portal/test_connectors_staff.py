"""What staff see of connectors, and what they may do: allow, forbid, and nothing past the pilot's guardrail."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages

from audit.context import Actor
from tenants.models import TenantConnector
from tenants.selectors import allowed_hosts
from tenants.services import connector_forbid
from tests.portal.conftest import TESTER, World

pytestmark = pytest.mark.django_db
CONNECTORS = "/admin/tenants/tenantconnector/"


def told(response: Any) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def act(world: World, action: str, pk: object, role: str = "operator") -> Any:
    return world.client(role).post(CONNECTORS, {"action": action, "_selected_action": str(pk)})


def add(world: World, role: str = "operator", connector: str = "github", tenant: object = None) -> Any:
    form = {"tenant": str(tenant or world.mine.tenant.pk), "connector": connector}
    return world.client(role).post(f"{CONNECTORS}add/", form)


def stands(row: TenantConnector) -> tuple[bool, bool]:
    row.refresh_from_db()
    return row.allowed, row.enabled


def test_staff_forbid_and_allow(world: World) -> None:
    """By the list's actions; the machine is cut off, and stays so when it is allowed again."""
    row = world.mine.connector
    assert stands(row) == (True, True)
    assert "Acme: GitHub forbidden" in told(act(world, "forbid", row.pk))
    assert stands(row) == (False, False)
    assert allowed_hosts(world.mine.tenant.pk) == []
    assert "Acme: GitHub allowed" in told(act(world, "allow", row.pk))
    assert stands(row) == (True, False)


def test_staff_allow_by_the_form(world: World) -> None:
    """A tenant without a row, and one that was forbidden."""
    TenantConnector.objects.filter(tenant=world.mine.tenant).delete()
    assert add(world).status_code == 302
    row = TenantConnector.objects.get(tenant=world.mine.tenant)
    assert (*stands(row), row.allowed_by) == (True, False, world.people["operator"])
    connector_forbid(actor=TESTER, tenant=world.mine.tenant, connector="github")
    assert add(world).status_code == 302
    assert stands(row) == (True, False)
    assert TenantConnector.objects.filter(tenant=world.mine.tenant).count() == 1


@pytest.mark.parametrize("connector", ["gitlab", "slack", "unheard-of", ""])
def test_the_form_offers_what_the_pilot_allows(world: World, connector: str) -> None:
    """A forged choice is refused, and leaves no row."""
    page = world.client("operator").get(f"{CONNECTORS}add/").content.decode()
    assert "GitHub" in page
    assert "GitLab" not in page
    assert "Slack" not in page
    before = list(TenantConnector.objects.values())
    assert add(world, connector=connector).status_code == 200
    assert list(TenantConnector.objects.values()) == before


def test_the_action_is_barred_too(world: World) -> None:
    """A row of another connector, however it came there, is not allowed by a click."""
    row = TenantConnector.objects.create(tenant=world.mine.tenant, connector="gitlab")
    assert "The pilot opens GitHub only" in told(act(world, "allow", row.pk, "superuser"))
    assert stands(row) == (False, False)


@pytest.mark.parametrize("field", ["allowed", "enabled", "beyond_pilot"])
def test_the_form_takes_no_other_field(world: World, field: str) -> None:
    """What it is sent beside tenant and connector counts for nothing."""
    TenantConnector.objects.all().delete()
    form = {"tenant": str(world.mine.tenant.pk), "connector": "github", field: "on"}
    world.client("superuser").post(f"{CONNECTORS}add/", form)
    row = TenantConnector.objects.get()
    assert (row.allowed, row.enabled, row.beyond_pilot) == (True, False, False)


def test_nothing_is_edited_or_deleted(world: World) -> None:
    """Not even by a superuser; and there is no bulk deletion."""
    client, row = world.client("superuser"), world.mine.connector
    assert client.post(f"{CONNECTORS}{row.pk}/change/", {"enabled": ""}).status_code == 403
    assert client.post(f"{CONNECTORS}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    act(world, "delete_selected", row.pk, "superuser")
    assert stands(row) == (True, True)


def test_other_tenants_are_out_of_reach(world: World) -> None:
    """Half staff act on what they operate: neither by an action, nor by a forged choice."""
    half = world.client("half staff")
    assert half.get(f"{CONNECTORS}{world.other.connector.pk}/change/").status_code == 404
    assert "Zebra" not in half.get(CONNECTORS).content.decode()
    act(world, "forbid", world.other.connector.pk, "half staff")
    assert stands(world.other.connector) == (True, True)
    assert add(world, "half staff").status_code == 403
    act(world, "forbid", world.mine.connector.pk, "half staff")
    assert stands(world.mine.connector) == (False, False)


def test_the_form_names_no_other_tenant(world: World) -> None:
    """Half staff who may add are offered their own tenants, and a forged choice is none."""
    adds = Permission.objects.get(codename="add_tenantconnector")
    world.people["half staff"].user_permissions.add(adds)
    page = world.client("half staff").get(f"{CONNECTORS}add/").content.decode()
    assert "Acme" in page
    assert "Zebra" not in page
    TenantConnector.objects.all().delete()
    assert add(world, "half staff", tenant=world.other.tenant.pk).status_code == 200
    assert not TenantConnector.objects.exists()


def test_an_offboarded_tenant_is_not_offered(world: World) -> None:
    """Nothing is opened for it any more."""
    tenant = world.mine.tenant
    connector_forbid(actor=TESTER, tenant=tenant, connector="github")
    type(tenant).objects.filter(pk=tenant.pk).update(offboarded_at=tenant.created_at)
    assert add(world).status_code == 200
    assert "is offboarded" in told(act(world, "allow", world.mine.connector.pk))
    assert stands(world.mine.connector) == (False, False)


def test_a_rows_page_tells_all(world: World) -> None:
    """Who allowed, who enabled, and what it reaches: staff see names that tenants do not."""
    connector_forbid(actor=Actor.of(world.people["half staff"]), tenant=world.mine.tenant, connector="github")
    page = world.client("operator").get(f"{CONNECTORS}{world.mine.connector.pk}/change/").content.decode()
    for word in ("Acme", "GitHub", "half", "raw.githubusercontent.com"):
        assert word in page
