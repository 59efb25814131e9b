"""A tenant's record: its page, an entry's page, and the API."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from audit.context import SYSTEM, Actor, command
from audit.models import Entry
from audit.services import record
from portal.record.asked import Asked, WrongQuestion
from portal.record.reading import PAGE
from tenants.services import membership_remove
from tests.portal.conftest import Place, World

pytestmark = pytest.mark.django_db
PAGE_URL = "/t/acme/record/"
API = "/api/v1/tenants/acme/record/"


def write(place: Place, action: str = "operation.requested", actor: Actor = SYSTEM, **data: Any) -> Entry:
    """One entry of the tenant's."""
    with transaction.atomic():
        return record(
            action=action,
            actor=actor,
            tenant_id=place.tenant.pk,
            target=("tenant", place.tenant.pk),
            data=data,
        )


def page(world: World, url: str = PAGE_URL, role: str = "owner") -> str:
    response = world.client(role).get(url)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def listed(world: World, query: str = "", role: str = "owner") -> list[dict[str, Any]]:
    return list(world.client(role).get(API + query).json()["entries"])


def test_the_page_says_who_did_what(world: World) -> None:
    """In plain words, the newest first."""
    write(world.mine, actor=Actor.of(world.people["member"]), kind="restart")
    shown = page(world)
    assert "Asked to restart the machine" in shown
    assert "<td>member</td>" in shown
    assert shown.index("Asked to restart the machine") < shown.index("Created the tenant with the plan small")


@pytest.mark.parametrize(
    ("actor", "name"),
    [
        (lambda world: Actor.of(world.people["owner"]), "owner-of-acme"),
        (lambda world: Actor.of(world.people["operator"]), "Staff"),
        (lambda world: Actor.of(world.people["superuser"]), "Staff"),
        (lambda world: Actor.of(world.people["stranger"]), "A former member"),
        (lambda world: Actor.of(world.other.membership.user), "A former member"),
        (lambda _world: Actor("user", "987654"), "A former member"),
        (lambda _world: Actor("user", "9" * 40), "A former member"),
        (lambda _world: SYSTEM, "The portal"),
        (lambda _world: command("tenant_create"), "An operator, by command"),
        (lambda _world: Actor("anonymous", ""), "Somebody not signed in"),
    ],
)
def test_only_the_tenants_own_people_have_names(
    world: World, actor: Callable[[World], Actor], name: str
) -> None:
    """Staff are staff, and another tenant's people are nobody."""
    entry = write(world.mine, actor=actor(world), kind="stop")
    assert listed(world)[0]["who"] == name
    shown = page(world, f"{PAGE_URL}{entry.pk}/") + page(world)
    for hidden in ("operator</", ">root", "stranger", "owner-of-zebra"):
        assert hidden not in shown


def test_who_has_left_has_no_name_any_more(world: World) -> None:
    member: User = world.people["member"]
    write(world.mine, actor=Actor.of(member), kind="stop")
    membership_remove(actor=SYSTEM, membership=member.memberships.get())
    told = [(row["who"], row["what"]) for row in listed(world)]
    assert told[:2] == [
        ("The portal", "Removed A former member"),
        ("A former member", "Asked to stop the machine"),
    ]


def test_people_in_facts_are_named_too(world: World) -> None:
    """An event knows them by number only."""
    assert "Added member as member" in [row["what"] for row in listed(world)]
    assert str(world.people["member"].pk) not in {row["what"] for row in listed(world)}


@pytest.mark.parametrize("role", ["owner", "member", "half staff", "operator"])
def test_another_tenants_entry_is_not_there(world: World, role: str) -> None:
    """Neither on the page, nor by its id, nor in the API; nor an entry that is no tenant's."""
    theirs = write(world.other, kind="restart")
    with transaction.atomic():
        nobodys = record(action="host.enabled", actor=SYSTEM)
    client = world.client(role)
    for entry in (theirs, nobodys):
        assert client.get(f"{PAGE_URL}{entry.pk}/").status_code == 404
        assert client.get(f"{API}{entry.pk}/").status_code == 404
        assert entry.pk not in {row["id"] for row in listed(world, role=role)}
    mine = write(world.mine, kind="restart")
    assert client.get(f"{PAGE_URL}{mine.pk}/").status_code == 200
    assert client.get(f"{API}{mine.pk}/").status_code == 200


def test_pages_leave_nothing_out(world: World) -> None:
    """Nothing comes twice either, though entries arrive in between."""
    for _ in range(2 * PAGE + 3):
        write(world.mine, kind="stop")
    expected = list(Entry.objects.filter(tenant_id=world.mine.tenant.pk).values_list("pk", flat=True))
    client, found = world.client("owner"), []
    query: str | None = ""
    while query is not None:
        answer = client.get(API + query).json()
        found += [row["id"] for row in answer["entries"]]
        query = f"?before={answer['next']}" if answer["next"] else None
        write(world.mine, kind="start")
    assert found == expected


def test_the_pages_links_lead_on_and_keep_the_question(world: World) -> None:
    for _ in range(PAGE + 1):
        write(world.mine, "secret.put", name="N", version=1)
    shown = page(world, f"{PAGE_URL}?topic=secrets&since=2026-01-01")
    (older,) = re.findall(r'href="\?([^"]*)" rel="next"', shown)
    assert "topic=secrets" in older
    assert "since=2026-01-01T00%3A00%3A00Z" in older
    following = page(world, f"{PAGE_URL}?{older.replace('&amp;', '&')}")
    assert 0 < following.count("<tr>") - 1 <= PAGE
    assert ">Newest</a>" in following
    assert 'href="?topic=&amp;before=' in page(world, f"{PAGE_URL}?topic=")


def test_requests_are_left_out_until_asked_for(world: World) -> None:
    """On the page, where they would hide all else; the API tells all."""
    write(world.mine, "request.routed", method="GET", path="/v1/jobs")
    words = "Sent a request to the machine: GET /v1/jobs"
    assert words not in page(world)
    assert words in page(world, f"{PAGE_URL}?topic=")
    assert words in page(world, f"{PAGE_URL}?topic=requests")
    assert words in [row["what"] for row in listed(world)]
    assert words not in [row["what"] for row in listed(world, "?topic=changes")]


def test_topics_and_times_narrow(world: World) -> None:
    write(world.mine, "secret.put", name="N", version=1)
    assert {row["topic"] for row in listed(world, "?topic=secrets")} == {"secrets"}
    now = timezone.now()
    past, future = now - timedelta(days=1), now + timedelta(days=1)
    today, tomorrow = f"{now:%Y-%m-%d}", f"{future:%Y-%m-%d}"
    everything = len(listed(world))
    assert everything > 3
    assert len(listed(world, f"?since={today}&until={today}")) == everything
    assert len(listed(world, f"?since={tomorrow}")) == 0
    assert len(listed(world, f"?until={past:%Y-%m-%d}")) == 0
    assert len(listed(world, f"?until={now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}")) == 0


@pytest.mark.parametrize(
    "query",
    [
        "topic=fleet",
        "topic=x",
        "since=yesterday",
        "until=2026-02-30",
        "until=9999-12-31",
        "until=9999-12-31T23:59-10:00",
        "since=0001-01-01T00:00%2B10:00",
        "before=0",
        "before=-1",
        "before=²",
        f"before={'9' * 30}",
    ],
)
def test_a_wrong_question_says_what_to_give(world: World, query: str) -> None:
    """On the page beside the form, without any rows; nothing breaks."""
    name = query.partition("=")[0]
    client = world.client("owner")
    answer = client.get(f"{API}?{query}")
    assert (answer.status_code, name in answer.json()["detail"]) == (400, True)
    response = client.get(f"{PAGE_URL}?{query}")
    assert response.status_code == 400
    assert f"{name}: give" in response.content.decode()
    assert "Created the tenant" not in response.content.decode()


@pytest.mark.parametrize(
    ("query", "all_of_it"),
    [
        ("since=0001-01-01", True),
        ("until=9999-12-31T23:59", True),
        ("until=0001-01-01T00:00", False),
        ("since=9999-12-31T23:59", False),
    ],
)
def test_the_ends_of_time_can_be_asked_for(world: World, query: str, all_of_it: bool) -> None:
    """On the page, whose links ask the same again, and in the API."""
    for _ in range(PAGE):
        write(world.mine, kind="stop")
    assert bool(listed(world, f"?{query}")) is all_of_it
    shown = page(world, f"{PAGE_URL}?{query}")
    for link in re.findall(r'href="\?([^"]*)" rel="next"', shown):
        page(world, f"{PAGE_URL}?{link.replace('&amp;', '&')}")


def test_the_day_in_the_form_is_the_one_that_was_given(world: World) -> None:
    shown = page(world, f"{PAGE_URL}?since=2026-03-01&until=2026-03-31")
    assert 'name="since" value="2026-03-01"' in shown
    assert 'name="until" value="2026-03-31"' in shown
    assert "None of this kind in this time." in shown


def test_a_question_without_a_zone_is_meant_in_utc() -> None:
    assert Asked.of(since="2026-03-01T09:30").since == datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    with pytest.raises(WrongQuestion):
        Asked.of(since="2026-03-01T25:30")


def test_nothing_in_an_event_is_markup(world: World) -> None:
    """A fact is text, wherever it is shown."""
    entry = write(world.mine, "secret.put", name="<script>alert(1)</script>", version=1)
    for url in (PAGE_URL, f"{PAGE_URL}{entry.pk}/"):
        shown = page(world, url)
        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert" in shown


def test_an_entrys_page_and_answer(world: World) -> None:
    """Words, facts, and the event as it is stored."""
    entry = write(world.mine, kind="restart", reason="It hangs.", size={"vcpus": 2})
    shown = page(world, f"{PAGE_URL}{entry.pk}/")
    assert '<td class="fact">It hangs.</td>' in shown
    assert "{&quot;vcpus&quot;: 2}" in shown
    answer = world.client("owner").get(f"{API}{entry.pk}/").json()
    assert answer["event"]["data"]["reason"] == "It hangs."
    assert (answer["what"], answer["index"]) == ("Asked to restart the machine", None)
