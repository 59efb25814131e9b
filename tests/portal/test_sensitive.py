"""Looks at sensitive pages are on record, once in ten minutes, and without the entry there is no page."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.core.cache import caches

from audit.models import Entry
from portal.sensitive import MODELS, PAGES, PLAIN
from tests.completeness.broken import broken_record
from tests.portal.conftest import World
from tests.portal.routes import routes

pytestmark = pytest.mark.django_db


def looks() -> list[dict[str, Any]]:
    found = Entry.objects.filter(action="record.viewed").order_by("pk")
    return [json.loads(entry.event) for entry in found]


def test_every_model_of_the_staffs_pages_is_judged() -> None:
    """A new model's pages are sensitive or plain: somebody has to say which."""
    shown = {model._meta.label for model in admin.site._registry}
    assert shown == set(MODELS) | PLAIN
    assert not set(MODELS) & PLAIN
    assert set(PAGES) <= {route.name for route in routes()}


@pytest.mark.parametrize(
    ("role", "url", "page", "target"),
    [
        ("superuser", "/admin/auth/user/{person}/change/", "people", "user"),
        ("superuser", "/admin/auth/user/", "people", "page"),
        ("operator", "/admin/audit/entry/", "record", "page"),
        ("half staff", "/admin/tenants/connectorsecret/", "secrets", "page"),
        ("superuser", "/admin/provisioning/egressrecord/{record}/change/", "outside", "egressrecord"),
        ("superuser", "/admin/axes/accessattempt/", "sign-ins", "page"),
        ("member", "/t/acme/secrets/", "secrets", "tenant"),
        ("owner", "/t/acme/members/", "members", "tenant"),
        ("operator", "/t/acme/outside/", "outside", "tenant"),
        ("member", "/api/v1/tenants/acme/egress/", "outside", "tenant"),
        ("owner", "/api/v1/tenants/acme/keyring/", "members", "tenant"),
    ],
)
def test_a_look_is_on_record(world: World, role: str, url: str, page: str, target: str) -> None:
    """Who saw which page of whose."""
    person = world.people["stranger"].pk
    url = url.format(person=person, record=world.mine.egress_record.pk)
    assert world.client(role).get(url).status_code == 200
    (event,) = looks()
    assert event["actor"] == {"kind": "user", "id": str(world.people[role].pk)}
    assert (event["data"]["page"], event["target"]["type"]) == (page, target)
    about_tenant = target in {"tenant", "egressrecord"}
    assert event["tenant"] == (str(world.mine.tenant.pk) if about_tenant else None)


@pytest.mark.parametrize(
    ("role", "url", "target"),
    [
        ("member", "/t/acme/record/{entry}/receipt/", "tenant"),
        ("owner", "/api/v1/tenants/acme/record/{entry}/receipt/", "tenant"),
        ("superuser", "/admin/audit/entry/{entry}/receipt/", "entry"),
    ],
)
def test_whoever_takes_an_entry_with_its_proof_has_seen_it(
    world: World, sequence: Callable[[], int], role: str, url: str, target: str
) -> None:
    """A receipt holds the entry: as good as its page."""
    sequence()
    entry = Entry.objects.filter(tenant_id=world.mine.tenant.pk)[0].pk
    answer = world.client(role).get(url.format(entry=entry))
    assert (answer.status_code, answer.headers["Content-Type"]) != (200, "text/html; charset=utf-8")
    (event,) = looks()
    assert (event["data"]["page"], event["target"]["type"]) == ("record", target)
    assert event["actor"]["id"] == str(world.people[role].pk)


@pytest.mark.parametrize("url", ["/log/checkpoint", "/log/tile/0/000.p/1", "/t/acme/record/download/"])
def test_hashes_are_no_looks(world: World, sequence: Callable[[], int], url: str) -> None:
    """They say nothing about anybody."""
    sequence()
    assert world.client("owner").get(url).status_code == 200
    assert looks() == []


@pytest.mark.parametrize("given", [{}, {"action": "nothing", "index": "0"}, {"action": ""}])
@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("/admin/audit/personaldatum/", "personal data"),
        ("/admin/auth/user/", "people"),
        ("/admin/tenants/connectorsecret/", "secrets"),
        ("/admin/provisioning/egressrecord/", "outside"),
    ],
)
def test_a_list_that_answers_a_form_is_a_look(
    world: World, url: str, page: str, given: dict[str, str]
) -> None:
    """Staff's lists answer a form that does nothing with all their rows, at once or by the page they lead to."""
    assert world.client("superuser").post(url, given, follow=True).status_code == 200
    (event,) = looks()
    assert (event["data"]["page"], event["actor"]["id"]) == (page, str(world.people["superuser"].pk))


@pytest.mark.parametrize("asked", ["topic=zzz", "since=yesterday", "before=x"])
def test_a_wrong_question_is_a_look_that_shows_no_rows(world: World, asked: str) -> None:
    """The page with the form is there, the entries are not."""
    answer = world.client("member").get(f"/t/acme/record/?{asked}")
    assert answer.status_code == 400
    assert "Created the tenant" in world.client("owner").get("/t/acme/record/").content.decode()
    assert b"Created the tenant" not in answer.content
    assert b"None yet" not in answer.content
    assert looks()[0]["actor"]["id"] == str(world.people["member"].pk)


def test_looks_of_ten_minutes_are_one(world: World) -> None:
    """The part that fetches itself belongs to its page; another person, page or row is another look."""
    client = world.client("owner")
    for url in ("/t/acme/secrets/", "/t/acme/secrets/live/", "/t/acme/secrets/"):
        client.get(url)
    assert len(looks()) == 1
    client.get("/t/acme/members/")
    world.client("member").get("/t/acme/secrets/")
    assert len(looks()) == 3
    caches["shared"].clear()


def test_without_the_entry_there_is_no_page(world: World) -> None:
    """And a look that could not be recorded is not taken for one that was."""
    client = world.client("superuser")
    url = f"/admin/auth/user/{world.people['stranger'].pk}/change/"
    with broken_record():
        answer = client.get(url)
    assert answer.status_code == 500
    assert b"stranger" not in answer.content
    assert client.get(url).status_code == 200
    assert len(looks()) == 1


def test_plain_pages_and_refused_looks_are_no_looks(world: World) -> None:
    """Nothing was seen that is sensitive."""
    world.client("owner").get("/t/acme/")
    world.client("member").get("/t/zebra/secrets/")
    world.client("anonymous").get("/t/acme/secrets/")
    assert looks() == []
