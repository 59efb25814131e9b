"""What changes something asks for POST and a CSRF token, on every route there is."""

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session

from audit.models import Entry, PersonalDatum
from provisioning.models import Operation
from tests.portal.conftest import Kind, State, World, make_operation
from tests.portal.routes import Route, routes

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(standing_world: World) -> World:
    return standing_world


every_route = pytest.mark.parametrize("route", routes(), ids=lambda route: f"{route.name} {route.path}")
POST_ONLY = {
    "break-glass-approve",
    "break-glass-end",
    "break-glass-open",
    "break-glass-reject",
    "break-glass-review",
    "break-glass-revoke",
    "break-glass-start",
    "break-glass-withdraw",
    "break-glass-key-options",
    "break-glass-key-retire",
    "break-glass-set-sign",
    "break-glass-set-withdraw",
    "sign-out",
    "tenant-access",
    "tenant-break-glass-approve",
    "tenant-break-glass-name",
    "tenant-break-glass-receipts",
    "tenant-break-glass-revoke",
    "tenant-break-glass-terms",
    "tenant-connector-switch",
    "tenant-operation",
    "tenant-record-export",
    "api-tenant-enter",
    "api-break-glass-approve",
    "api-break-glass-receipts",
    "api-break-glass-revoke",
    "api-break-glass-terms",
    "api-runtime-operations",
    "api-consents",
    "api-key",
    "api-key-options",
    "api-keys",
    "api-record-receipts",
    "api-sign-in",
    "api-sign-in-challenge",
    "admin:logout",
    "admin:audit_entry_export",
    "admin:audit_entry_personal",
    "admin:provisioning_operation_cancel",
}

OPEN_TO_STRANGERS = {"api-sign-in", "api-sign-in-challenge"}
"""No token, for there is no session yet: JSON only, which another site cannot send."""


def everything() -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table but the sessions', and but what the record says of looks, exports and refusals.

    To their entries belong the commitments to who it was.
    """
    rows = {
        model._meta.label: sorted(model._default_manager.values_list(), key=repr)
        for model in apps.get_models()
        if model not in {Session, PersonalDatum}
    }
    kept = Entry.objects.exclude(action__in=["record.viewed", "record.exported", "request.refused"])
    return rows | {"audit.Entry": sorted(kept.values_list(), key=repr)}


@every_route
def test_looking_changes_nothing(world: World, route: Route) -> None:
    """GET as the mightiest person there is leaves every table as it was, or is refused with 405."""
    make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=2)
    client = world.client("superuser")
    before = everything()
    response = client.get(route.url(world.mine))
    assert everything() == before
    assert (response.status_code == 405) == (route.name in POST_ONLY)


@every_route
@pytest.mark.parametrize("role", ["anonymous", "owner", "operator", "superuser"])
def test_a_post_without_the_token_is_refused(world: World, route: Route, role: str) -> None:
    """Whoever posts without a CSRF token changes nothing; with a session the answer is 403 or the wrong verb."""
    if role == "anonymous" and route.name.startswith("admin:"):
        return
    client = world.client(role, csrf=True)
    before = everything()
    response = client.post(
        route.url(world.mine), {"kind": "stop", "name": "changed", "action": "request_stop"}
    )
    assert everything() == before
    if route.name in OPEN_TO_STRANGERS:
        assert response.status_code == 415
        return
    assert response.status_code in ({403, 405} if role != "anonymous" else {302, 401, 403, 405})


def test_a_post_with_the_token_is_taken(world: World) -> None:
    """The same request with the page's token works, so that the refusals above mean something."""
    client = world.client("owner", csrf=True)
    page = f"/t/{world.mine.tenant.slug}/"
    client.get(page)
    token = client.cookies["__Host-csrf"].value
    response = client.post(f"{page}operations/", {"kind": "stop", "csrfmiddlewaretoken": token})
    assert response.status_code == 302
    assert Operation.objects.filter(kind="stop").count() == 1


def test_the_api_takes_the_token_in_a_header(world: World) -> None:
    """A script in the page can use the API; a foreign one has no token."""
    client = world.client("owner", csrf=True)
    client.get(f"/t/{world.mine.tenant.slug}/")
    url = f"/api/v1/runtimes/{world.mine.runtime.pk}/operations/"
    ask = {"kind": "stop"}
    assert client.post(url, ask, content_type="application/json").status_code == 403
    headers = {"X-CSRFToken": client.cookies["__Host-csrf"].value}
    assert client.post(url, ask, content_type="application/json", headers=headers).status_code == 201
