"""The page and the API of outside connections, and what staff see of them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.context import Actor
from portal.outside import PAGE, WORDS
from provisioning.egress.records import REASONS
from provisioning.models import EgressRecord, Host, Runtime
from tenants.selectors import allowed_hosts
from tenants.services import connector_disable
from tests.portal.conftest import Place, World

pytestmark = pytest.mark.django_db
PAGE_URL = "/t/acme/outside/"
API = "/api/v1/tenants/acme/egress/"
STAFF = "/admin/provisioning/egressrecord/"


def add(place: Place, count: int = 1, **given: Any) -> None:
    fields = {"at": timezone.now(), "host": "github.com", "port": 443, "verdict": "allowed", **given}
    EgressRecord.objects.bulk_create(
        EgressRecord(tenant=place.tenant, runtime=place.runtime, **fields) for _ in range(count)
    )


def serve(place: Place) -> datetime:
    """As the keeper confirmed it."""
    since = datetime(2026, 11, 26, 9, 8, 7, tzinfo=UTC)
    hosts = [[name, port] for name, port in allowed_hosts(place.tenant.pk)]
    Runtime.objects.filter(pk=place.runtime.pk).update(egress=True, egress_hosts=hosts, egress_at=since)
    return since


def page(world: World, role: str = "owner", query: str = "") -> str:
    response = world.client(role).get(PAGE_URL + query)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def test_the_page_says_what_may_be_reached_and_since_when(world: World) -> None:
    serve(world.mine)
    shown = page(world)
    assert "In force since 26 Nov 09:08:07 (UTC)" in shown
    assert "<code>api.github.com</code>" in shown
    assert "sees names and amounts, and never what is inside" in shown


def test_a_change_that_the_proxy_has_not_taken_is_said(world: World) -> None:
    """What it reaches is what the proxy confirmed, not what somebody wishes."""
    serve(world.mine)
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(egress_hosts=[["old.example.com", 8443]])
    shown = page(world)
    assert "A change is on its way to the proxy" in shown
    assert "<code>old.example.com:8443</code>" in shown
    assert "<code>api.github.com</code>" not in shown


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"egress": False}, "The machine reaches nothing outside: no proxy serves it."),
        ({"egress": True}, "The machine reaches nothing yet: its proxy has not confirmed it."),
        (
            {"phase": "deleted", "host": None, "reserved": False, "volume_key": None},
            "There is no machine yet.",
        ),
    ],
)
def test_a_machine_without_a_way_out_is_said(world: World, fields: dict[str, Any], words: str) -> None:
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(**fields)
    assert words in page(world)


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_machine_that_is_set_aside_is_said_to_reach_nothing(world: World, confirmed: bool) -> None:
    """Before and after the proxy has taken it; nobody is told to wait, or that connectors are off."""
    serve(world.mine)
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(
        phase="quarantined", **({"egress_hosts": []} if confirmed else {})
    )
    connectors = world.client("owner").get("/t/acme/connectors/").content.decode()
    for shown in (page(world), connectors):
        assert "The machine is set aside: it reaches nothing outside." in shown
        for wrong in ("Changing", "is on its way", "No connector is on", "Not in force yet", "In force"):
            assert wrong not in shown
    assert 'hx-trigger="every 2s' not in connectors
    for url in (API, "/api/v1/tenants/acme/connectors/"):
        assert world.client("owner").get(url).json()["in_force_since"] is None


def test_nothing_enabled_is_not_in_force_while_set_aside(world: World) -> None:
    """The proxy's empty list is what the connectors allow, and yet not because they allow it."""
    connector_disable(actor=Actor.of(world.people["owner"]), tenant=world.mine.tenant, connector="github")
    serve(world.mine)
    assert world.client("owner").get(API).json()["in_force_since"]
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(phase="quarantined")
    assert world.client("owner").get(API).json()["in_force_since"] is None


def test_packets_past_the_proxy_are_shown(world: World) -> None:
    """The count, and what it means."""
    assert "Nothing has tried to leave past the proxy." in page(world)
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(
        direct_packets=7, direct_bytes=2048, direct_at=timezone.now()
    )
    shown = page(world)
    assert "7 packets (2.0" in shown
    assert "Something on the machine does not use the proxy." in shown
    answer = world.client("owner").get(API).json()
    assert (answer["direct"]["packets"], answer["direct"]["bytes"]) == (7, 2048)


def test_pages_follow_each_other_without_gap_or_overlap(world: World) -> None:
    """By what was taken over last, also while new rows come in between."""
    EgressRecord.objects.all().delete()
    for number in range(2 * PAGE + 3):
        add(world.mine, host=f"h{number:03}.example.com")
    add(world.other, 5, host="zebras.example.com")
    seen: list[str] = []
    before = ""
    for _ in range(3):
        answer = world.client("owner").get(API, {"before": before} if before else {}).json()
        seen += [row["host"] for row in answer["records"]]
        before = answer["next"]
        add(world.mine, host="new.example.com")
    assert before is None
    assert seen == [f"h{number:03}.example.com" for number in reversed(range(2 * PAGE + 3))]


def test_one_tenants_page_is_that_tenants_only(world: World) -> None:
    """Also for those who may see both."""
    shown = page(world, "operator")
    assert "acmes.example.com" in shown
    assert "zebras.example.com" not in shown
    rows = world.client("operator").get(API).json()["records"]
    assert [row["host"] for row in rows] == ["acmes.example.com"]


def test_the_page_links_to_older_and_newest(world: World) -> None:
    add(world.mine, PAGE)
    first = page(world)
    link = re.search(r'href="(\?verdict=&amp;before=\d+)" rel="next"', first)
    assert link is not None
    assert ">Newest<" not in first
    second = page(world, query=link[1].replace("&amp;", "&"))
    assert "acmes.example.com" in second
    assert ">Newest<" in second
    assert 'rel="next"' not in second


@pytest.mark.parametrize("verdict", ["allowed", "refused"])
def test_one_kind_only(world: World, verdict: str) -> None:
    add(world.mine)
    rows = world.client("owner").get(API, {"verdict": verdict}).json()["records"]
    assert {row["verdict"] for row in rows} == {verdict}
    assert f"<strong>{verdict.capitalize()}</strong>" in page(world, query=f"?verdict={verdict}")


@pytest.mark.parametrize(
    "query",
    ["verdict=both", "before=x", "before=-1", "before=0", "before=1e3", "before=²", "before=" + "9" * 40],
)
def test_a_question_that_makes_no_sense(world: World, query: str) -> None:
    """The page is not there; the API says what to give."""
    assert world.client("owner").get(f"{PAGE_URL}?{query}").status_code == 404
    answer = world.client("owner").get(f"{API}?{query}")
    assert answer.status_code == 400
    assert "give" in answer.json()["detail"]


def test_the_last_day_is_summed(world: World) -> None:
    """Attempts, not rows; nothing older; nobody else's."""
    EgressRecord.objects.all().delete()
    add(world.mine, attempts=3, bytes_up=100, bytes_down=1000)
    add(world.mine, verdict="refused", reason="sni", attempts=2)
    add(world.mine, attempts=50, at=timezone.now() - timedelta(hours=25))
    add(world.other, attempts=70)
    answer = world.client("owner").get(API).json()
    assert answer["day"] == {"allowed": 3, "refused": 2, "bytes_up": 100, "bytes_down": 1000}
    assert "3 allowed, 2 refused" in page(world)


def test_a_refusal_says_why_in_words(world: World) -> None:
    """Each reason that the proxy knows has a sentence for people."""
    assert set(REASONS) < set(WORDS)
    for reason in WORDS:
        add(world.mine, verdict="refused", reason=reason)
    shown = page(world)
    for words in WORDS.values():
        assert words[1:] in shown.replace("&#x27;", "'")


def test_a_guests_words_are_text(world: World) -> None:
    """The name in an attempt is whatever the guest sent."""
    add(world.mine, host="<script>alert(1)</script>", verdict="refused", reason="<b>")
    for role, url in (("owner", PAGE_URL), ("operator", STAFF)):
        content = world.client(role).get(url).content
        assert b"<script>alert" not in content
        assert b"<b>" not in content
        assert b"&lt;script&gt;alert(1)" in content


def test_nothing_is_changed_through_these_pages(world: World) -> None:
    for url in (PAGE_URL, API):
        for method in ("post", "put", "patch", "delete"):
            assert getattr(world.client("owner"), method)(url).status_code == 405


def test_staff_filter_and_find(world: World) -> None:
    """By verdict, tenant and host, and by the name that was asked for."""
    add(world.mine, host="github.com")
    add(world.other, host="github.com", verdict="refused", reason="name")
    client = world.client("operator")

    def rows(query: str) -> int:
        return int(client.get(f"{STAFF}?{query}").context["cl"].result_count)

    assert rows("") == 4
    assert rows("verdict__exact=refused") == 3
    assert rows(f"tenant__id__exact={world.mine.tenant.pk}") == 2
    assert rows(f"runtime__host__id__exact={world.mine.runtime.host_id}") == 4
    assert rows("q=github.com") == 2
    assert rows("q=github") == 0


def test_half_staff_see_their_tenants_rows_and_filters_only(world: World) -> None:
    content = world.client("half staff").get(STAFF).content.decode()
    assert "acmes.example.com" in content
    assert "zebra" not in content.lower()


def test_nothing_is_edited_by_staff(world: World) -> None:
    client = world.client("superuser")
    row = world.mine.egress_record
    assert client.post(f"{STAFF}{row.pk}/change/", {"host": "other"}).status_code == 403
    assert client.post(f"{STAFF}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(STAFF, {"action": "delete_selected", "_selected_action": str(row.pk), "post": "yes"})
    assert EgressRecord.objects.filter(pk=row.pk).exists()
    assert client.get(f"{STAFF}add/").status_code == 403


def test_the_front_page_shows_a_keepers_trouble(world: World) -> None:
    """In red, with the way to the host; the list of hosts says it too."""
    Host.objects.update(
        egress_path="/srv/egress", egress_problem="squid -k parse says no", egress_generation=4
    )
    client = world.client("operator")
    assert b"way out: squid -k parse says no" in client.get("/admin/").content
    hosts = "/admin/provisioning/host/"
    assert b"squid -k parse says no" in client.get(hosts).content
    Host.objects.update(egress_problem="", egress_applied=3)
    assert b"rules 3 of 4" in client.get(hosts).content
    Host.objects.update(egress_applied=4)
    assert b"in force" in client.get(hosts).content
    Host.objects.update(egress_path="")
    assert b">none<" in client.get(hosts).content
