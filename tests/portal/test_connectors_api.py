"""Connectors over the API and by the page's switch: what each person gets, and every status."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.messages import get_messages

from audit.context import Actor
from audit.models import Entry
from provisioning.models import Runtime
from tenants.connectors import CONNECTORS
from tenants.models import TenantConnector
from tenants.selectors import allowed_hosts
from tenants.services import connector_disable, connector_forbid
from tests.portal.conftest import TESTER, World

pytestmark = pytest.mark.django_db
URL = "/api/v1/tenants/acme/connectors/"
PAGE = "/t/acme/connectors/"
SWITCH = "/t/acme/connectors/switch/"
SINCE = datetime(2026, 11, 26, 9, 12, 4, tzinfo=UTC)


def patch(world: World, given: Any, role: str = "owner", connector: str = "github") -> Any:
    return world.client(role).patch(f"{URL}{connector}/", given, content_type="application/json")


def stands(world: World) -> tuple[bool, bool]:
    row = TenantConnector.objects.get(tenant=world.mine.tenant, connector="github")
    return row.allowed, row.enabled


def switch(world: World, role: str = "owner", **sent: str) -> Any:
    return world.client(role).post(SWITCH, sent)


def told(response: Any) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def test_the_list(world: World) -> None:
    """Every connector of the table, in its order, and what each reaches."""
    answer = world.client("member").get(URL).json()
    assert answer["total_count"] == len(CONNECTORS)
    assert [one["connector"] for one in answer["connectors"]] == list(CONNECTORS)
    github = answer["connectors"][0]
    assert github == world.client("owner").get(f"{URL}github/").json()
    assert set(github) == {
        *("connector", "name", "state", "allowed", "enabled"),
        *("change", "changed_at", "reaches"),
    }
    assert (github["state"], github["change"]) == ("enabled", "turned on by owner-of-acme")
    assert {"host": "api.github.com", "port": 443}.items() <= github["reaches"][1].items()
    assert {one["state"] for one in answer["connectors"][1:]} == {"later"}


def in_force(world: World, **proxy: Any) -> tuple[str | None, str]:
    """What API and page say, with the proxy's word as a worker notes it."""
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(**proxy)
    client = world.client("owner")
    return client.get(URL).json()["in_force_since"], client.get(PAGE).content.decode()


def test_since_when_it_is_in_force(world: World) -> None:
    """As the proxy has confirmed, for just these hosts; null until then, and after every change."""
    since, page = in_force(world, egress=False)
    assert (since, "No proxy serves the machine, so" in page) == (None, True)
    since, page = in_force(world, egress=True, egress_hosts=[], egress_at=SINCE)
    assert (since, "Not in force yet" in page) == (None, True)
    hosts = [list(place) for place in allowed_hosts(world.mine.tenant.pk)]
    since, page = in_force(world, egress_hosts=hosts)
    assert (since, "In force since 26 Nov 09:12:04" in page) == (SINCE.isoformat(), True)
    patch(world, {"enabled": False})
    assert in_force(world)[0] is None


def test_before_there_is_a_machine(world: World) -> None:
    """What is on holds from its first start."""
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(
        phase="deleted", host=None, reserved=False, volume_key=None
    )
    assert "There is no machine yet." in world.client("owner").get(PAGE).content.decode()


def test_an_owner_switches(world: World) -> None:
    """Off and on; asked again it is 200 and nothing is recorded."""
    answer = patch(world, {"enabled": False})
    assert (answer.status_code, answer.json()["state"]) == (200, "disabled")
    entries = Entry.objects.filter(target_type="connector")
    count = entries.count()
    assert patch(world, {"enabled": False}).status_code == 200
    assert entries.count() == count
    assert patch(world, {"enabled": True}).json()["state"] == "enabled"
    assert entries.latest("pk").action == "connector.enabled"


def test_staff_allow_and_forbid(world: World) -> None:
    """Tenants learn that it was staff, not who."""
    answer = patch(world, {"allowed": False}, "operator").json()
    assert (answer["state"], answer["change"]) == ("forbidden", "forbidden by staff")
    answer = patch(world, {"allowed": True}, "half staff").json()
    assert (answer["state"], answer["change"]) == ("disabled", "allowed by staff")
    assert stands(world) == (True, False)


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    ("name", "role", "status"),
    [
        ("enabled", "owner", 200),
        ("enabled", "member", 403),
        ("enabled", "operator", 403),
        ("enabled", "half staff", 403),
        ("enabled", "superuser", 403),
        ("enabled", "stranger", 404),
        ("enabled", "anonymous", 403),
        ("allowed", "owner", 403),
        ("allowed", "member", 403),
        ("allowed", "operator", 200),
        ("allowed", "half staff", 200),
        ("allowed", "superuser", 200),
        ("allowed", "stranger", 404),
        ("allowed", "anonymous", 403),
    ],
)
def test_who_changes_what(world: World, name: str, role: str, status: int, value: bool) -> None:
    """Owners switch, operators allow, nobody does both."""
    before = stands(world)
    assert patch(world, {name: value}, role).status_code == status
    if status != 200 or value:
        assert stands(world) == before


@pytest.mark.parametrize("role", ["owner", "operator"])
@pytest.mark.parametrize("connector", ["gitlab", "slack"])
def test_the_pilot_bars_the_others(world: World, role: str, connector: str) -> None:
    """409, with what is open; the switch says the same."""
    name, deed = ("enabled", "enable") if role == "owner" else ("allowed", "allow")
    answer = patch(world, {name: True}, role, connector)
    assert (answer.status_code, answer.json()["code"]) == (409, "pilot")
    assert "The pilot opens GitHub only" in answer.json()["detail"]
    assert "The pilot opens GitHub only" in told(switch(world, role, **{deed: connector}))
    assert not TenantConnector.objects.filter(connector=connector).exists()


def test_what_staff_have_not_allowed(world: World) -> None:
    """409: an owner learns whom to ask."""
    connector_forbid(actor=TESTER, tenant=world.mine.tenant, connector="github")
    answer = patch(world, {"enabled": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_permitted")
    assert "Ask an operator" in answer.json()["detail"]
    assert "Ask an operator" in told(switch(world, enable="github"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        {"enabled": True, "allowed": True},
        {"enabled": None},
        {"enabled": "perhaps"},
        {"beyond_pilot": True},
        {"reaches": []},
    ],
)
def test_a_malformed_body(world: World, given: Any) -> None:
    answer = patch(world, given)
    assert answer.status_code == 400
    assert stands(world) == (True, True)


@pytest.mark.parametrize("connector", ["nobodys", "GITHUB", "x" * 200])
def test_a_connector_that_is_not_there(world: World, connector: str) -> None:
    """404 over the API; the switch says which there are."""
    assert patch(world, {"enabled": True}, connector=connector).status_code == 404
    assert world.client("owner").get(f"{URL}{connector}/").status_code == 404
    assert "There is no such connector" in told(switch(world, enable=connector))


def test_thirty_changes_a_minute(world: World) -> None:
    """Each has a proxy read its rules again; reading is free of it."""
    client = world.client("owner")
    ends = [
        client.patch(
            f"{URL}github/", {"enabled": bool(number % 2)}, content_type="application/json"
        ).status_code
        for number in range(31)
    ]
    assert ends == [200] * 30 + [429]
    assert client.get(URL).status_code == 200


def test_the_switch(world: World) -> None:
    """Each deed by whose it is, with a word on what follows."""
    assert "GitHub is off" in told(switch(world, disable="github"))
    assert stands(world) == (True, False)
    assert "GitHub is on" in told(switch(world, enable="github"))
    assert "GitHub is forbidden" in told(switch(world, "operator", forbid="github"))
    assert stands(world) == (False, False)
    assert "GitHub is allowed" in told(switch(world, "operator", allow="github"))
    assert stands(world) == (True, False)


@pytest.mark.parametrize(
    ("role", "deed", "status"),
    [
        ("member", "disable", 403),
        ("operator", "disable", 403),
        ("owner", "forbid", 403),
        ("member", "forbid", 403),
        ("stranger", "disable", 404),
        ("anonymous", "disable", 302),
    ],
)
def test_the_switch_is_not_for_everybody(world: World, role: str, deed: str, status: int) -> None:
    assert switch(world, role, **{deed: "github"}).status_code == status
    assert stands(world) == (True, True)


@pytest.mark.parametrize("sent", [{}, {"enable": "github", "disable": "github"}, {"destroy": "github"}])
def test_one_deed_at_a_time(world: World, sent: dict[str, str]) -> None:
    assert "Choose one" in told(switch(world, **sent))
    assert stands(world) == (True, True)


def test_the_switch_needs_a_token(world: World) -> None:
    """A page of somebody else's cannot press it."""
    client = world.client("owner", csrf=True)
    assert client.post(SWITCH, {"disable": "github"}).status_code == 403
    assert stands(world) == (True, True)


def test_the_api_needs_a_token_too(world: World) -> None:
    """The same for PATCH; with the header it is taken."""
    client = world.client("owner", csrf=True)
    client.get(PAGE)
    asked: Any = {"path": f"{URL}github/", "data": {"enabled": False}, "content_type": "application/json"}
    assert client.patch(**asked).status_code == 403
    assert stands(world) == (True, True)
    headers = {"X-CSRFToken": client.cookies["__Host-csrf"].value}
    assert client.patch(**asked, headers=headers).status_code == 200


def test_buttons_for_each(world: World) -> None:
    """Owners switch, operators decide, members look."""
    pages = {role: world.client(role).get(PAGE).content.decode() for role in ("owner", "member", "operator")}
    assert 'name="disable"' in pages["owner"]
    assert 'name="forbid"' not in pages["owner"]
    assert "<button form=" not in pages["member"]
    assert 'name="forbid"' in pages["operator"]
    assert 'name="disable"' not in pages["operator"]


def test_an_unchanged_part_is_not_sent_again(world: World) -> None:
    """204 while nothing has changed; the part once it has."""
    client = world.client("owner")
    seen = client.get(PAGE).context["digest"]
    assert client.get(f"{PAGE}live/?seen={seen}").status_code == 204
    connector_disable(actor=Actor.of(world.people["owner"]), tenant=world.mine.tenant, connector="github")
    assert client.get(f"{PAGE}live/?seen={seen}").status_code == 200


def test_the_name_of_a_person_who_has_left(world: World) -> None:
    """An account that is deleted leaves the switch as it was."""
    row = world.mine.connector
    type(row).objects.filter(pk=row.pk).update(enabled_by=None)
    assert "Turned on by somebody who has left" in world.client("owner").get(PAGE).content.decode()


def test_the_page_of_secrets_says_what_is_shut(world: World) -> None:
    """A credential for a connector that is off is of no use yet; nothing is said while it is on."""
    page = "/t/acme/secrets/"
    assert "cannot reach" not in world.client("owner").get(page).content.decode()
    connector_disable(actor=Actor.of(world.people["owner"]), tenant=world.mine.tenant, connector="github")
    assert "The machine cannot reach GitHub now." in world.client("owner").get(page).content.decode()
