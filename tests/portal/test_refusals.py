"""Every refused attempt is on record, and nobody can fill the record with refusals."""

import json
from typing import Any

import pytest
from django.core.cache import caches
from django.test import Client, override_settings

from audit.models import Entry
from portal import refusals
from portal.models import RouteGrant
from portal.tasks import refusals_count
from provisioning.models import Runtime
from tenants.models import Membership
from tests.portal.conftest import World

pytestmark = pytest.mark.django_db


def newest() -> dict[str, Any]:
    """The newest entry's event."""
    document: dict[str, Any] = json.loads(Entry.objects.latest("pk").event)
    return document


def told(event: dict[str, Any]) -> tuple[object, ...]:
    return event["action"], event["data"]["status"], event["data"]["code"], event["data"]["route"]


REFUSED = [
    ("member", "get", "/t/zebra/", 404, "not_found", "tenant"),
    ("member", "get", "/wp-login.php", 404, "not_found", "unknown"),
    ("member", "post", "/t/acme/operations/", 403, "forbidden", "tenant-operation"),
    ("member", "get", "/admin/login/", 403, "forbidden", "admin:login"),
    ("operator", "get", "/admin/auth/group/", 403, "forbidden", "admin:auth_group_changelist"),
    (
        "half staff",
        "get",
        "/admin/tenants/tenant/{other}/change/",
        404,
        "not_found",
        "admin:tenants_tenant_change",
    ),
    ("anonymous", "get", "/api/v1/runtimes/", 403, "forbidden", "api-runtimes"),
    ("member", "get", "/api/v1/tenants/zebra/secrets/", 404, "not_found", "api-secrets"),
    ("member", "put", "/api/v1/tenants/zebra/secrets/A/", 404, "not_found", "api-secret"),
]


@pytest.mark.parametrize(("role", "method", "url", "status", "reason", "route"), REFUSED)
def test_a_refusal_is_on_record(
    world: World, role: str, method: str, url: str, status: int, reason: str, route: str
) -> None:
    """Who, what was asked for by the route's name, and the answer."""
    url = url.format(other=world.other.tenant.pk)
    more: Any = {"data": {"kind": "stop"}} if method != "get" else {}
    if "/api/" in url and method != "get":
        more |= {"content_type": "application/json"}
    assert getattr(world.client(role), method)(url, **more).status_code == status
    event = newest()
    assert told(event) == ("request.refused", status, reason, route)
    assert event["data"]["method"] == method.upper()
    assert event["actor"]["id"] == (str(world.people[role].pk) if role != "anonymous" else "")


@pytest.mark.parametrize(
    ("role", "method", "url", "own"),
    [
        ("member", "post", "/t/acme/operations/", True),
        ("member", "get", "/t/zebra/", False),
        ("half staff", "get", "/t/zebra/", False),
        ("member", "get", "/api/v1/tenants/zebra/secrets/", False),
        ("anonymous", "get", "/api/v1/tenants/zebra/secrets/", False),
    ],
)
def test_only_its_own_people_write_into_a_tenants_record(
    world: World, role: str, method: str, url: str, own: bool
) -> None:
    """A stranger who knows its name does not; the target says to staff whose door it was."""
    place = world.mine if "acme" in url else world.other
    before = Entry.objects.filter(tenant_id=place.tenant.pk).count()
    assert getattr(world.client(role), method)(url, data={"kind": "stop"}).status_code in {403, 404, 405}
    assert Entry.objects.filter(tenant_id=place.tenant.pk).count() - before == int(own)
    assert newest()["action"] == "request.refused"
    assert newest()["target"] == {"type": "tenant", "id": str(place.tenant.pk)}


def test_a_name_that_nobody_has_leaves_no_trace(world: World) -> None:
    """What was typed is not kept."""
    client = world.client("member")
    client.get("/t/correct-horse-battery/")
    event = newest()
    assert (event["tenant"], event["target"]) == (None, {"type": "", "id": ""})
    assert "horse" not in json.dumps(event)


def test_what_was_typed_into_an_address_is_not_kept(world: World) -> None:
    """Neither a path that leads nowhere, nor an id that no row has."""
    client = world.client("superuser")
    for url in ("/my-secret-path/", "/admin/auth/user/my-secret/change/", "/admin/my-secret/"):
        client.get(url)
        assert "my-secret" not in Entry.objects.latest("pk").event


def test_a_form_without_its_token_is_on_record(world: World) -> None:
    """As just that."""
    assert world.client("owner", csrf=True).post("/t/acme/operations/", {"kind": "stop"}).status_code == 403
    assert told(newest()) == ("request.refused", 403, "csrf", "tenant-operation")


def test_a_locked_sign_in_is_on_record(world: World) -> None:
    """Five failures are entries of their own; the sixth answer is the lock's."""
    client = world.client("anonymous")
    form = {"username": "stranger", "password": "wrong"}
    answers = [client.post("/sign-in/", form).status_code for _ in range(6)]
    assert answers[-1] == 429
    assert told(newest()) == ("request.refused", 429, "locked_out", "sign-in")
    assert Entry.objects.filter(action="session.refused").count() >= 5


def test_a_refused_key_is_one_entry_not_two(world: World) -> None:
    """The view's own entry stands for the answer."""
    before = Entry.objects.count()
    given = {"fingerprint": "0" * 64, "nonce": "0" * 64, "signature": {}}
    answer = world.client("anonymous").post("/api/v1/sign-in/", given, content_type="application/json")
    assert answer.status_code == 403
    assert [e.action for e in Entry.objects.order_by("pk")[before:]] == ["session.refused"]


def routed(world: World, **headers: str) -> Any:
    client = Client(headers={"Portal-Method": "GET", "Portal-Path": "/", **headers})
    return client.get("/.portal/authorize", headers={"Host": "acme.portal.localhost"})


def test_a_refused_way_to_a_machine_is_on_record(world: World) -> None:
    """Without a cookie by nobody; with one whose holder is no longer a member, by that person."""
    assert routed(world).status_code == 401
    assert told(newest()) == ("request.refused", 401, "route_required", "route-authorize")
    assert (newest()["tenant"], newest()["target"]["id"]) == (None, str(world.mine.tenant.pk))
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(agent_address="192.0.2.2:8443")
    member = world.client("member")
    opened = member.post("/t/acme/open/")
    ticket = opened["Location"].partition("ticket=")[2]
    guest = Client()
    entered = guest.get("/.portal/enter", {"ticket": ticket}, headers={"Host": "acme.portal.localhost"})
    assert entered.status_code == 302
    Membership.objects.filter(user=world.people["member"]).delete()
    cookie = f"__Host-route={entered.cookies['__Host-route'].value}"
    assert RouteGrant.objects.count() == 1
    assert routed(world, Cookie=cookie).status_code == 403
    assert told(newest()) == ("request.refused", 403, "not_a_member", "route-authorize")
    assert newest()["actor"] == {"kind": "user", "id": str(world.people["member"].pk)}
    assert newest()["tenant"] is None


def test_strangers_cannot_fill_the_record(world: World) -> None:
    """A fixed number of entries a minute; the rest is counted, and the count is written down once."""
    client = world.client("anonymous")
    before = Entry.objects.count()
    for _ in range(refusals.STRANGERS + 15):
        assert client.get("/nowhere/").status_code == 404
    assert Entry.objects.count() - before == refusals.STRANGERS
    refusals_count()
    assert newest()["action"] == "request.refusals_counted"
    assert newest()["data"] == {"strangers": 15, "people": 0}


def test_what_was_counted_is_written_once(world: World, django_capture_on_commit_callbacks: Any) -> None:
    """The counters go down by what was written, and a minute without refusals leaves nothing."""
    client = world.client("member")
    for _ in range(refusals.PERSON + 4):
        client.get("/nowhere/")
    with django_capture_on_commit_callbacks(execute=True):
        refusals_count()
    assert newest()["data"] == {"strangers": 0, "people": 4}
    count = Entry.objects.count()
    refusals_count()
    assert Entry.objects.count() == count


def test_one_persons_flood_hides_nobody_elses_attempt(world: World) -> None:
    """Each person has a budget of their own, and strangers have another."""
    flood, other = world.client("member"), world.client("stranger")
    for _ in range(refusals.PERSON + 1):
        flood.get("/nowhere/")
    other.get("/t/acme/")
    assert newest()["actor"]["id"] == str(world.people["stranger"].pk)
    world.client("anonymous").get("/nowhere/")
    assert newest()["actor"]["kind"] == "anonymous"


def test_failed_sign_ins_have_the_same_bound(world: World) -> None:
    """A stranger who tries many names writes no more entries than one who tries many addresses."""
    client = world.client("anonymous")
    before = Entry.objects.count()
    for number in range(refusals.STRANGERS + 5):
        client.post("/sign-in/", {"username": f"nobody-{number}", "password": "wrong"})
    assert Entry.objects.count() - before == refusals.STRANGERS
    assert caches["shared"].get(refusals._counter("strangers")) == 5


@override_settings(ALLOWED_HOSTS=["*"])
def test_nothing_but_refusals_is_one(world: World) -> None:
    """An answer that lets through, leads to sign-in or names the wrong verb leaves no such entry."""
    client = world.client("member")
    before = Entry.objects.filter(action="request.refused").count()
    client.get("/t/acme/")
    client.get("/t/acme/operations/")
    world.client("anonymous").get("/t/acme/")
    assert Entry.objects.filter(action="request.refused").count() == before
