"""What a tenant's people see of break-glass, and what its owners sign and stop; by pages and by the API."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit import log
from audit.context import Actor
from audit.models import Entry
from breakglass.models import OwnerApproval, TenantApprovers, TermsVersion, Ticket
from breakglass.services import draft, ticket_edit
from protocol.persons import Purpose
from protocol.verify.access import verify_access
from protocol.verify.outcome import Keys
from tenants.models import Membership
from tests.portal import tickets
from tests.portal.breakglass.done import READ, tell
from tests.portal.conftest import World, device_of
from tests.portal.routes import body
from tests.portal.test_queries import counted
from tests.protocol.people import naming

pytestmark = pytest.mark.django_db
Sequence = Callable[[], int]
PAGE, API = "/t/acme/break-glass/", "/api/v1/tenants/acme/break-glass/"
WHY = "Is <b>it</b> the nightly report?"
ASKED = {"scopes": ["workspace:read"], "paths": ["reports"], "reason": WHY}


@pytest.fixture
def people(world: World) -> list[User]:
    """Two who approve."""
    return list(User.objects.filter(username__in=["ann", "ben"]).order_by("username"))


@pytest.fixture
def ticket(world: World) -> Ticket:
    """One that waits."""
    return tickets.ask(world.mine.ticket.requester, world.mine.tenant, **ASKED)


@pytest.fixture
def active(world: World, ticket: Ticket, people: list[User]) -> Ticket:
    """One that runs, and what was done under it."""
    begun = tickets.begin(ticket, people[0])
    tell(world.mine, begun)
    return begun


def terms(world: World, **modes: str) -> TermsVersion:
    """Signed by the owner's device key, by the API."""
    before = TermsVersion.objects.filter(tenant=world.mine.tenant).first()
    document = {
        "version": before.version + 1 if before else 1,
        "tenant_id": str(world.mine.tenant.pk),
        "ordinary": "approvers",
        "emergency": "approvers",
        **modes,
    }
    signature = owner(world).sign(Purpose.TERMS, document)
    assert post(world, "terms/", {"document": document, "signature": signature}).status_code == 200
    return TermsVersion.objects.filter(tenant=world.mine.tenant)[0]


def owner(world: World) -> Any:
    return device_of(world.people["owner"].username)


def post(world: World, path: str, given: Any, role: str = "owner") -> Any:
    return world.client(role).post(API + path, given, content_type="application/json")


def page(world: World, ticket: Ticket, role: str = "member") -> str:
    answer = world.client(role).get(f"{PAGE}{ticket.pk}/")
    assert answer.status_code == 200
    return str(answer.content.decode())


@pytest.mark.parametrize("role", ["member", "owner", "operator", "half staff"])
def test_the_list_shows_what_is_open_and_what_waits(world: World, active: Ticket, role: str) -> None:
    shown = world.client(role).get(PAGE).content.decode()
    assert "Access that is open now" in shown
    assert "1 request so far" in shown
    assert "Is &lt;b&gt;it&lt;/b&gt; the nightly report?" in shown


def test_a_member_sees_who_why_by_whom_and_each_path(world: World, active: Ticket) -> None:
    """The whole story on one page, and nothing that a reason says is markup."""
    shown = page(world, active)
    for words in ("✓ ann approved", "reports/a.txt", "Read a file", "2.0 kB", "Is &lt;b&gt;it&lt;/b&gt;"):
        assert words in shown
    assert "<b>it</b>" not in shown
    assert 'form="revoke"' not in shown


def test_what_was_asked_before_a_change_is_told(world: World, ticket: Ticket) -> None:
    """Each revision says what it changed."""
    ticket.refresh_from_db()
    actor = Actor.of(ticket.requester)
    document = draft(
        actor=actor,
        tenant=world.mine.tenant,
        passkey=tickets.passkey(ticket.requester),
        ticket=ticket,
        kind="ordinary",
        reason=WHY,
        scopes=["workspace:read"],
        paths=["reports/may"],
    )
    signature = tickets.sign(ticket.requester, Purpose.ACCESS_REQUEST, document)
    ticket_edit(actor=actor, ticket=ticket, document=document, signature=signature)
    shown = page(world, ticket)
    assert "Where: <del>reports</del> → <ins>reports/may</ins>" in shown


def test_the_part_that_changes_is_sent_when_it_has(world: World, active: Ticket, people: list[User]) -> None:
    """204 as long as nothing is new; another state is another page."""
    client = world.client("member")
    url = f"{PAGE}{active.pk}/live/"
    first = client.get(url)
    seen, shown = first.context["digest"], first.context["shown"]
    assert client.get(f"{url}?seen={seen}&shown={shown}").status_code == 204
    tell(world.mine, active, [("access", "t2", {**READ, "path": "reports/b.txt"})])
    assert b"reports/b.txt" in client.get(f"{url}?seen={seen}&shown={shown}").content
    world.client("owner").post(f"{PAGE}{active.pk}/revoke/", {"words": "Enough."})
    assert client.get(f"{url}?seen={seen}&shown={shown}").headers["HX-Refresh"] == "true"
    assert client.get(f"{PAGE}live/?seen={client.get(PAGE).context['digest']}").status_code == 204


@pytest.mark.parametrize("way", ["page", "api"])
def test_an_owner_stops_access_at_once(world: World, active: Ticket, way: str) -> None:
    if way == "page":
        world.client("owner").post(f"{PAGE}{active.pk}/revoke/", {"words": "Enough."})
    else:
        assert post(world, f"{active.pk}/revoke/", {"words": "Enough."}).json()["state"] == "revoked"
    active.refresh_from_db()
    assert (active.state, active.ending, active.ended_by) == ("revoked", "owner", world.people["owner"])
    assert "owner-of-acme revoked it" in page(world, active)


@pytest.mark.parametrize("what", ["approve/", "revoke/"])
def test_members_who_own_nothing_look_only(world: World, active: Ticket, what: str) -> None:
    """Neither by the page nor by the API, whatever they send."""
    assert world.client("member").post(f"{PAGE}{active.pk}/{what}", {"revision": "1"}).status_code == 403
    given = {"revision": 1, "signature": owner(world).sign(Purpose.OWNER_APPROVAL, active.document)}
    assert post(world, f"{active.pk}/{what}", given, role="member").status_code == 403
    active.refresh_from_db()
    assert active.state == "active"
    assert not OwnerApproval.objects.exists()


@pytest.mark.parametrize("what", ["approvers/name/", "approvers/terms/"])
def test_only_owners_sign_whom_and_how(world: World, what: str) -> None:
    for role in ("member", "operator", "superuser"):
        assert world.client(role).post(f"{PAGE}{what}", {}).status_code == 403


def test_an_owner_signs_a_ticket_with_a_device_key(world: World, people: list[User]) -> None:
    """Where the terms say so nothing begins without; the signature is of the revision that was read."""
    terms(world, ordinary="owner")
    ticket = tickets.ask(world.mine.ticket.requester, world.mine.tenant, **ASKED)
    tickets.approve(people[0], ticket)
    assert "Waits for one of your owners" in world.client("owner").get(PAGE).content.decode()
    assert "python -m client break-glass approve acme" in page(world, ticket, "owner")
    signature = owner(world).sign(Purpose.OWNER_APPROVAL, ticket.document)
    assert post(world, f"{ticket.pk}/approve/", {"revision": 2, "signature": signature}).status_code == 409
    other = owner(world).sign(Purpose.OWNER_APPROVAL, ticket.document | {"seconds": 60})
    assert post(world, f"{ticket.pk}/approve/", {"revision": 1, "signature": other}).status_code == 409
    told = post(world, f"{ticket.pk}/approve/", {"revision": 1, "signature": signature}).json()
    assert (told["state"], told["owner_agreed"]) == ("approved", True)


def test_terms_are_shown_and_signed(world: World) -> None:
    """The newest hold; a version that is not the next is refused."""
    assert "Nobody is let in without" not in world.client("owner").get(PAGE).content.decode()
    terms(world, ordinary="owner", emergency="closed")
    assert "Nobody is let in without the signature" in world.client("owner").get(PAGE).content.decode()
    told = world.client("member").get(f"{API}approvers/").json()
    assert told["modes"] == {"ordinary": "owner", "emergency": "closed"}
    again = told["terms"]["document"] | {"emergency": "approvers"}
    given = {"document": again, "signature": owner(world).sign(Purpose.TERMS, again)}
    assert post(world, "terms/", given).status_code == 409


def test_an_owner_names_the_set_in_force(world: World, people: list[User]) -> None:
    """With a device key: the very set that is in force, and no other; members cannot."""
    tickets.approvers(*people)
    told = world.client("owner").get(f"{API}approvers/").json()["current"]
    document, version, tenant = told["document"], told["version"], str(world.mine.tenant.pk)
    good = {"version": version, "signature": naming(owner(world), document, tenant)}
    another = naming(owner(world), {**document, "version": version + 1, "previous": "0" * 64}, tenant)
    lies = [
        another,
        naming(device_of("member"), document, tenant),
        naming(owner(world), document, str(world.other.tenant.pk)),
        owner(world).sign(Purpose.APPROVERS, document),
    ]
    for given in (*({"version": version, "signature": one} for one in lies), good | {"version": version - 1}):
        assert post(world, "approvers/", given).status_code == 409
    assert post(world, "approvers/", good, role="member").status_code == 403
    assert post(world, "approvers/", good).json()["named"]["version"] == version
    assert TenantApprovers.objects.filter(tenant=world.mine.tenant)[0].set.version == version


def test_the_api_tells_all_that_was_signed(world: World, active: Ticket) -> None:
    """Whoever reads can check it: documents, signatures, the set."""
    told = world.client("member").get(f"{API}{active.pk}/").json()
    assert [one["document"] for one in told["revisions"]] == [active.document]
    assert len(told["approvals"]) == 1
    assert told["done"][0]["what"] == "Read a file"
    assert told["receipts"] == 4
    listed = world.client("member").get(API).json()["tickets"]
    assert {one["id"] for one in listed} == {str(active.pk), str(world.mine.ticket.pk)}


def test_the_file_proves_itself(world: World, active: Ticket, sequence: Sequence, tmp_path: Path) -> None:
    """The standalone verifier believes it by the log's key alone; the download is on record."""
    sequence()
    answer = world.client("member").post(f"{PAGE}{active.pk}/receipts/")
    assert answer["Content-Disposition"].startswith('attachment; filename="acme-access-')
    path = tmp_path / "access.jsonl"
    path.write_bytes(body(answer))
    found = verify_access(path, Keys(log.vkey()))
    assert (found.first, found.last, found.anchored) == (1, 4, 4)
    assert found.tenant_id == str(world.mine.tenant.pk)
    newest = Entry.objects.filter(action="break_glass.exported").get()
    assert json.loads(newest.event)["data"] == {"from": 1, "to": 4}
    command = [sys.executable, "-m", "protocol.verify", "access", str(path), "--key", str(log.vkey())]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert "reports/a.txt" in run.stdout


def test_a_file_of_a_later_ticket_begins_with_its_own(
    world: World, active: Ticket, people: list[User], sequence: Sequence, tmp_path: Path
) -> None:
    """What lies between belongs to other tickets of the tenant's, which come along."""
    tell(world.mine, active, [("ended", "", {"code": "done", "streams": 0})])
    requester = world.mine.ticket.requester
    second = tickets.begin(tickets.ask(requester, world.mine.tenant, **ASKED), people[1])
    tell(world.mine, second)
    tell(world.mine, active, [("refused", "t9", {"code": "ended"})])
    sequence()
    for ticket, first in ((second, 6), (active, 1)):
        path = tmp_path / str(first)
        path.write_bytes(body(world.client("owner").post(f"{API}{ticket.pk}/receipts/")))
        found = verify_access(path, Keys(log.vkey()))
        assert (found.first, found.last) == (first, 10)


def test_there_is_no_file_before_there_are_receipts(world: World, ticket: Ticket, sequence: Sequence) -> None:
    sequence()
    answer = post(world, f"{ticket.pk}/receipts/", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_receipts_yet")
    assert world.client("owner").post(f"{PAGE}{ticket.pk}/receipts/").status_code == 302


def test_another_tenants_tickets_do_not_exist(world: World) -> None:
    """Also by one's own tenant's address."""
    theirs = world.other.ticket.pk
    for path in (f"{theirs}/", f"{theirs}/live/"):
        assert world.client("owner").get(PAGE + path).status_code == 404
    for path in ("approve/", "revoke/", "receipts/"):
        assert world.client("owner").post(f"{PAGE}{theirs}/{path}").status_code == 404
        assert post(world, f"{theirs}/{path}", {}).status_code == 404
    assert world.client("owner").get(f"{API}{theirs}/").status_code == 404


def test_the_past_comes_in_pages(world: World, people: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is on one of them, and what is open is on all."""
    monkeypatch.setattr("portal.breakglass.tenant_views.PAGE", 2)
    requester, tenant = world.mine.ticket.requester, world.mine.tenant
    over = [tickets.reject(people[0], tickets.ask(requester, tenant), "No.") for _ in range(3)]
    pages = [world.client("member").get(f"{PAGE}?page={page}") for page in ("1", "2", "9", "x")]
    shown = [[str(one.ticket.pk) for one in page.context["past"]] for page in pages]
    assert [len(one) for one in shown] == [2, 1, 0, 2]
    assert sorted(shown[0] + shown[1]) == sorted(str(one.pk) for one in over)
    assert shown[3] == shown[0]
    assert all(str(world.mine.ticket.pk) in page.content.decode() for page in pages)
    assert b"?page=2" in pages[0].content
    assert b"?page=1" in pages[1].content


@pytest.mark.parametrize("url", [PAGE, API, f"{PAGE}{{ticket}}/"])
def test_many_tickets_ask_as_often_as_few(world: World, people: list[User], url: str) -> None:
    """What is pinned in tests/portal/queries.json does not grow with them."""
    few = counted(world, "owner", url)
    for _ in range(3):
        tickets.ask(world.mine.ticket.requester, world.mine.tenant)
        asked = tickets.ask(world.mine.ticket.requester, world.mine.tenant)
        tickets.reject(people[0], asked, "Not this week.")
    assert counted(world, "owner", url) == few


def test_a_ticket_stands_below_its_own_tenant_only(world: World) -> None:
    """Staff who operate both do not find one's ticket among the other's."""
    theirs = world.other.ticket.pk
    assert world.client("operator").get(f"/t/zebra/break-glass/{theirs}/").status_code == 200
    assert world.client("operator").get(f"{PAGE}{theirs}/").status_code == 404
    assert str(theirs) not in world.client("operator").get(PAGE).content.decode()
    assert world.client("operator").get(f"{API}{theirs}/").status_code == 404


def test_a_former_owner_stops_nothing(world: World, active: Ticket) -> None:
    """Whoever has lost the place has lost the button."""
    client = world.client("owner")
    Membership.objects.filter(user=world.people["owner"]).delete()
    assert client.post(f"{PAGE}{active.pk}/revoke/").status_code == 404
