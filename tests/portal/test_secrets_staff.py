"""What staff see of secrets and tenants' keys, and what they may do: revoke, rotate, offboard."""

import base64
from typing import Any

import pytest
from django.contrib.messages import get_messages

from tenants.models import ConnectorSecret, Tenant, TenantKey
from tests.portal.conftest import SEALED, World

pytestmark = pytest.mark.django_db
TENANTS = "/admin/tenants/tenant/"
SECRETS = "/admin/tenants/connectorsecret/"
KEYS = "/admin/tenants/tenantkey/"


def told(response: Any) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def act(world: World, url: str, action: str, pk: object, role: str = "operator", **more: str) -> Any:
    return world.client(role).post(url, {"action": action, "_selected_action": str(pk), **more})


def test_names_and_states_and_no_ciphertext(world: World) -> None:
    """The list, and the page of one version."""
    client = world.client("operator")
    secret = world.mine.secret
    pages = client.get(SECRETS).content + client.get(f"{SECRETS}{secret.pk}/change/").content
    assert b"GITHUB_TOKEN" in pages
    for held in (SEALED, bytes(secret.wrapped or b"")):
        for form in (held.hex(), base64.b64encode(held).decode(), repr(held)[2:30]):
            assert form.encode() not in pages
    assert b"field-wrapped" not in pages


def test_nothing_is_edited(world: World) -> None:
    """Not even by a superuser."""
    client = world.client("superuser")
    for url in (f"{SECRETS}{world.mine.secret.pk}/change/", f"{KEYS}{world.mine.tenant_key.pk}/change/"):
        assert client.post(url, {"state": "held"}).status_code == 403
        assert client.post(url.replace("change", "delete"), {"post": "yes"}).status_code == 403
    for url in (SECRETS, KEYS):
        assert client.post(f"{url}add/", {}).status_code == 403


def test_staff_revoke(world: World) -> None:
    """Those of tenants that they operate; the machine has to confirm."""
    response = act(world, SECRETS, "revoke", world.mine.secret.pk)
    assert "GITHUB_TOKEN is being revoked" in told(response)
    world.mine.secret.refresh_from_db()
    assert world.mine.secret.state == "revoking"
    act(world, SECRETS, "revoke", world.other.secret.pk, "half staff")
    world.other.secret.refresh_from_db()
    assert world.other.secret.state == "waiting"


def test_staff_ask_for_a_new_key(world: World) -> None:
    """A worker makes it; this process could not."""
    response = act(world, TENANTS, "rotate_keys", world.mine.tenant.pk)
    assert "changes within seconds" in told(response)
    wanted = TenantKey.objects.filter(rotation_wanted=True)
    assert [key.tenant for key in wanted] == [world.mine.tenant]


def test_offboarding_asks_for_a_reason(world: World) -> None:
    """A page that says what goes; then what stands in the way."""
    page = act(world, TENANTS, "offboard", world.mine.tenant.pk)
    assert page.status_code == 200
    assert b"Nobody can take this back" in page.content
    again = act(world, TENANTS, "offboard", world.mine.tenant.pk, reason="short")
    assert b"at least 10 characters" in again.content
    refused = act(world, TENANTS, "offboard", world.mine.tenant.pk, reason="The contract has ended.")
    assert "Delete it first" in told(refused)
    assert not Tenant.objects.exclude(offboarded_at=None).exists()


def test_an_offboarded_tenant_is_there_for_staff_alone(world: World) -> None:
    """Its keys are gone; nobody changes it; its owner's pages are 404."""
    runtime = world.mine.runtime
    type(runtime).objects.filter(pk=runtime.pk).update(
        phase="deleted", host=None, reserved=False, volume_key=None
    )
    done = act(world, TENANTS, "offboard", world.mine.tenant.pk, reason="The contract has ended.")
    assert "offboarded" in told(done)
    assert ConnectorSecret.objects.get(tenant=world.mine.tenant).wrapped is None
    assert world.client("owner").get("/t/acme/secrets/").status_code == 404
    staff = world.client("operator")
    assert staff.get(f"{TENANTS}{world.mine.tenant.pk}/change/").status_code == 200
    changed = {
        "name": "New",
        "price_cents": 6000,
        "memberships-TOTAL_FORMS": 0,
        "memberships-INITIAL_FORMS": 0,
    }
    assert staff.post(f"{TENANTS}{world.mine.tenant.pk}/change/", changed).status_code == 403
