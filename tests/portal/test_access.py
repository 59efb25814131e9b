"""Who may open what. The routes are read from the URL configuration, so a new one is covered at once."""

from collections.abc import Callable

import pytest
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from provisioning.models import Runtime
from tests.portal.conftest import NOWHERE, Place, World
from tests.portal.routes import IN_THE_LOG, Route, body, routes

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(standing_world: World) -> World:
    return standing_world


ROUTES = routes()
PUBLIC = {"sign-in", "healthz", "metrics"}
"""``metrics`` only past the proxy, as these clients ask: tests/portal/test_metrics.py."""
PUBLIC_API = {"api-sign-in", "api-sign-in-challenge"}
"""For the command line, before it has a session; tests/portal/test_key_sign_in.py says what they tell."""
EVERYBODY = ("stranger", "member", "owner", "half staff", "operator", "superuser", "approver")
OUTSIDERS = ("stranger", "member", "owner", "half staff", "requester")
"""People to whom ``world.other`` is somebody else's."""

every_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.name} {route.path}")
scoped_route = pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.is_scoped], ids=lambda route: f"{route.name} {route.path}"
)


def asked(client: Client, route: Route, url: str, method: str = "get") -> int:
    """The status of a request for ``url``; the API is sent JSON."""
    if route.name.startswith("api-") and method == "post":
        return client.post(url, {"kind": "stop"}, content_type="application/json").status_code
    return int(getattr(client, method)(url).status_code)


STAFF = {"half staff", "operator", "requester"}


def is_page_for_staff(route: Route) -> bool:
    return route.is_staffs


def turned_away(route: Route) -> int:
    """What people without staff rights are answered there: the admin has its own sign-in."""
    return 302 if route.path.startswith("/admin/") else 403


@every_route
@pytest.mark.parametrize("method", ["get", "post"])
def test_strangers_to_the_portal_are_sent_to_sign_in(world: World, route: Route, method: str) -> None:
    """Anonymous: a redirect to the sign-in page, 401 or 403, and 405 for a wrong verb; never a page."""
    url = route.url(world.mine)
    response = getattr(world.client("anonymous"), method)(url)
    if route.name in PUBLIC:
        assert response.status_code in ({200} if method == "get" else {200, 405})
    elif route.name in PUBLIC_API:
        assert response.status_code in {405, 415}
    elif response.status_code == 302:
        assert response["Location"].startswith(("/sign-in/", "/admin/login/", "/admin/"))
    else:
        assert response.status_code in {401, 403, 405}
    assert b"acme" not in response.content.lower()


@every_route
@pytest.mark.parametrize("role", ["stranger", "member", "owner"])
def test_the_staffs_pages_are_closed_to_others(world: World, route: Route, role: str) -> None:
    """Signed in without staff rights: no page of the staff's opens, whatever it names."""
    if not is_page_for_staff(route):
        assert not route.name.startswith("admin:")
        return
    client = world.client(role)
    for method in ("get", "post"):
        response = getattr(client, method)(route.url(world.mine), follow=True)
        assert response.status_code == 403 or response.redirect_chain[-1][0] == "/sign-in/", (
            response.status_code
        )
        client = world.client(role)  # the admin's sign-out has ended the session


@scoped_route
@pytest.mark.parametrize("role", OUTSIDERS)
@pytest.mark.parametrize("method", ["get", "post"])
def test_somebody_elses_object_does_not_exist(world: World, route: Route, role: str, method: str) -> None:
    """The answer for another tenant's object equals that for one that was never there: 404, or the wrong verb.

    Non-staff never get as far as an admin page.
    """
    if is_page_for_staff(route) and role not in STAFF:
        wrong_verb = {405} if turned_away(route) == 403 else set()
        status = asked(world.client(role), route, route.url(world.other), method)
        assert status in {turned_away(route)} | wrong_verb
        assert status == asked(world.client(role), route, route.missing(), method)
        return
    theirs = asked(world.client(role), route, route.url(world.other), method)
    assert theirs == asked(world.client(role), route, route.missing(), method)
    assert theirs in {404, 405}
    assert theirs == 404 or asked(world.client(role), route, route.url(world.mine), method) == 405


@scoped_route
@pytest.mark.parametrize("role", ["half staff", "operator"])
def test_staff_may_open_what_they_operate(
    world: World, route: Route, role: str, sequence: Callable[[], int]
) -> None:
    """The same routes answer for one's own tenant, so that the 404s above mean something."""
    if route.name in IN_THE_LOG:
        sequence()
    status = asked(world.client(role), route, route.url(world.mine))
    if route.name.endswith("_delete"):
        assert status == 403, "nothing of a tenant is deleted here"
    else:
        assert status in {200, 405} or (
            status == 409 and route.name.endswith("_receipt")
        )  # no checkpoint yet


@scoped_route
@pytest.mark.parametrize("role", ["member", "owner"])
def test_members_may_open_their_own(
    world: World, route: Route, role: str, sequence: Callable[[], int]
) -> None:
    """Pages and API of one's own tenant open."""
    if route.name in IN_THE_LOG:
        sequence()
    if is_page_for_staff(route):
        assert asked(world.client(role), route, route.url(world.mine)) == turned_away(route)
    else:
        assert asked(world.client(role), route, route.url(world.mine)) in {200, 405}


@every_route
@pytest.mark.parametrize("role", EVERYBODY)
def test_no_page_breaks_for_anybody(world: World, route: Route, role: str) -> None:
    """No route answers 5xx, for an object that is there and for one that is not."""
    for url in (route.url(world.mine), route.url(world.other), route.missing()):
        for method in ("get", "post"):
            assert asked(world.client(role), route, url, method) < 500, (method, url)


@every_route
@pytest.mark.parametrize("role", OUTSIDERS)
def test_lists_hold_nothing_of_others(world: World, route: Route, role: str) -> None:
    """No answer to an outsider names the other tenant, its machine, its operation or its people's entries."""
    place: Place = world.other
    # As nginx passes it on: a program on the portal's own machine may ask for the metrics of all.
    away = {"Portal-Address": "198.51.100.7"}
    content = body(world.client(role).get(route.url(world.mine), follow=True, headers=away)).decode()
    for word in (place.tenant.slug, place.tenant.name, place.tenant.pk, place.runtime.pk, place.operation.pk):
        assert str(word) not in content, route.path


def test_a_stranger_sees_no_tenant_at_all(world: World) -> None:
    """Signed in, belonging nowhere: empty lists and what to do next."""
    client = world.client("stranger")
    assert client.get("/api/v1/runtimes/").json()["results"] == []
    page = client.get("/").content.decode()
    assert "You belong to no tenant yet. Ask your owner or an operator" in page


@pytest.mark.parametrize(
    ("role", "seen"), [("member", 1), ("half staff", 1), ("operator", 2), ("superuser", 2)]
)
def test_the_api_lists_what_is_in_scope(world: World, role: str, seen: int) -> None:
    """One's own, and no more."""
    assert len(world.client(role).get("/api/v1/runtimes/").json()["results"]) == seen


def test_autocomplete_is_scoped_too(world: World) -> None:
    """The field that finds tenants offers a half operator only theirs."""
    found = world.client("half staff").get(
        "/admin/autocomplete/",
        {"app_label": "provisioning", "model_name": "runtime", "field_name": "tenant", "term": "e"},
    )
    assert [row["text"] for row in found.json()["results"]] == ["Acme"]


def test_the_record_is_scoped(world: World) -> None:
    """Half staff read their tenant's entries and no one else's; operators of all read all."""
    half = world.client("half staff").get("/admin/audit/entry/").content.decode()
    assert str(world.mine.tenant.pk) in half
    assert str(world.other.tenant.pk) not in half
    assert str(world.other.tenant.pk) in world.client("operator").get("/admin/audit/entry/").content.decode()


def test_lost_rights_count_at_once(world: World) -> None:
    """Removing a membership or the staff flag closes the pages for a session that is already there."""
    member, half = world.client("member"), world.client("half staff")
    page = f"/t/{world.mine.tenant.slug}/"
    staff_page = f"/admin/provisioning/runtime/{world.mine.runtime.pk}/change/"
    assert (member.get(page).status_code, half.get(staff_page).status_code) == (200, 200)
    world.people["member"].memberships.all().delete()
    world.people["half staff"].is_staff = False
    world.people["half staff"].save()
    assert (member.get(page).status_code, half.get(page).status_code) == (404, 404)
    assert half.get(staff_page).status_code == 302


def test_an_inactive_person_has_no_session(world: World) -> None:
    """Switching a person off ends what they had open."""
    client = world.client("owner")
    world.people["owner"].is_active = False
    world.people["owner"].save()
    assert client.get(f"/t/{world.mine.tenant.slug}/").status_code == 302
    assert client.get("/api/v1/runtimes/").status_code in {401, 403}


def test_the_admins_shortcut_to_public_pages_tells_nothing(world: World) -> None:
    """``/admin/r/<type>/<id>/`` is 404 for a row that is there, for another's, and for none."""
    kind = ContentType.objects.get_for_model(Runtime).pk
    pages = {
        world.client("half staff").get(f"/admin/r/{kind}/{pk}/").content
        for pk in (world.mine.runtime.pk, world.other.runtime.pk, NOWHERE)
    }
    assert len(pages) == 1
    assert b"Not found" in pages.pop()
