"""The staff's pages of tickets without a browser: what each reader may do, and what is signed."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from audit.context import Actor
from audit.models import Entry
from breakglass import services
from breakglass.models import Approval, Review, Ticket
from portal.breakglass.ticket_page import full, part
from portal.models import RouteGrant
from protocol.persons import Purpose
from tests.portal import tickets
from tests.portal.conftest import World
from tests.portal.test_polling import HTMX
from tests.portal.test_queries import counted
from tests.portal.tickets import WHY

pytestmark = pytest.mark.django_db
FORM = {"reason": WHY, "scopes": "logs:read", "minutes": "30", "tenant": "acme"}


def url(ticket: Ticket, deed: str = "") -> str:
    return f"/break-glass/{ticket.pk}/{deed}{'/' if deed else ''}"


def answer(client: Client, user: User, address: str, purpose: Purpose, signed: Any, **form: str) -> Any:
    """The second step, with an assertion over ``signed``."""
    signature = tickets.sign(user, purpose, signed)
    return client.post(address, form | {"signature": json.dumps(signature)})


def deeds(user: User, ticket: Ticket) -> set[str]:
    return set(part(user, full(Ticket.objects.all()).get(pk=ticket.pk)).deeds)


def test_what_each_reader_may_do(world: World) -> None:
    """By the ticket's state; nobody is offered what the service would refuse."""
    ticket, people = world.mine.ticket, world.people
    ann, half, me = people["approver"], people["half staff"], people["requester"]
    assert deeds(me, ticket) == {"edit", "withdraw"}
    assert deeds(ann, ticket) == {"approve", "reject", "revoke"}
    assert deeds(half, ticket) == {"revoke"}
    tickets.approve(ann, ticket)
    assert deeds(me, ticket) == {"edit", "withdraw", "start"}
    assert deeds(ann, ticket) == {"revoke"}
    services.ticket_start(actor=Actor.of(me), ticket=Ticket.objects.get(pk=ticket.pk))
    assert deeds(me, ticket) == {"end"}
    Ticket.objects.filter(pk=ticket.pk).update(delivered_at=timezone.now())
    assert deeds(me, ticket) == {"open", "end"}
    services.ticket_end(actor=Actor.of(me), ticket=Ticket.objects.get(pk=ticket.pk))
    assert deeds(me, ticket) == {"review"}
    assert deeds(ann, ticket) == deeds(half, ticket) == set()


def test_an_approver_who_asks_decides_nothing_of_their_own(world: World) -> None:
    """Not even where their key is in the set: no button, and no signature is taken."""
    me = world.people["requester"]
    tickets.approvers(me, world.people["approver"])
    tickets.named(world.mine.tenant)
    ticket = tickets.ask(me, world.mine.tenant)
    assert "approve" not in deeds(me, ticket)
    client = world.client("requester")
    client.post(url(ticket, "approve"), {"revision": "1"})
    response = answer(client, me, url(ticket, "approve"), Purpose.APPROVAL, ticket.document, revision="1")
    assert (response.status_code, "Somebody else" in response.json()["detail"]) == (409, True)
    assert not Approval.objects.filter(ticket=ticket).exists()


def test_only_what_was_shown_is_signed(world: World) -> None:
    """The page names the revision that it showed; another one is not even offered for signing."""
    ticket, client = world.mine.ticket, world.client("approver")
    for revision in ("", "2", "x"):
        response = client.post(url(ticket, "approve"), {"revision": revision})
        assert (response.status_code, "changed while you read" in response.json()["detail"]) == (409, True)


def test_a_change_between_the_two_steps_is_seen(world: World) -> None:
    """The approver signs revision 1 while the requester signs revision 2: nothing is approved."""
    ticket, ann, me = world.mine.ticket, world.people["approver"], world.people["requester"]
    client = world.client("approver")
    asked = client.post(url(ticket, "approve"), {"revision": "1"}).json()
    actor = Actor.of(me)
    document = services.draft(
        actor=actor,
        tenant=ticket.tenant,
        kind="ordinary",
        reason=WHY,
        scopes=["status"],
        passkey=tickets.passkey(me),
        ticket=ticket,
    )
    signature = tickets.sign(me, Purpose.ACCESS_REQUEST, document)
    services.ticket_edit(actor=actor, ticket=ticket, document=document, signature=signature)
    response = answer(client, ann, url(ticket, "approve"), Purpose.APPROVAL, asked["document"])
    assert (response.status_code, "changed while you read" in response.json()["detail"]) == (409, True)
    assert not Approval.objects.exists()


def test_the_browsers_document_is_not_believed(world: World) -> None:
    """A form that sends a wider document along with its signature opens the one that was drafted, or none."""
    client, me = world.client("requester"), world.people["requester"]
    drafted = client.post("/break-glass/new/", FORM).json()["document"]
    wider = drafted | {"scopes": ["exec"], "paths": [""]}
    response = answer(
        client, me, "/break-glass/new/", Purpose.ACCESS_REQUEST, wider, document=json.dumps(wider)
    )
    assert response.status_code == 409
    assert Ticket.objects.count() == 2


def test_a_signature_without_a_first_step_is_refused(world: World) -> None:
    """For each page that signs."""
    ticket, ann = world.mine.ticket, world.people["approver"]
    client = world.client("approver")
    for deed, purpose in (("approve", Purpose.APPROVAL), ("reject", Purpose.REJECTION)):
        response = answer(client, ann, url(ticket, deed), purpose, ticket.document)
        assert (response.status_code, "waited too long" in response.json()["detail"]) == (409, True)


def test_the_form_is_answered_beside_its_fields(world: World) -> None:
    response = world.client("requester").post("/break-glass/new/", FORM | {"reason": "short"})
    assert response.status_code == 400
    assert set(response.json()["fields"]) == {"reason"}


@pytest.mark.parametrize(("tenant", "status"), [("zebra", 404), ("nobody", 404), ("acme", 200)])
def test_one_asks_for_what_one_operates(world: World, tenant: str, status: int) -> None:
    """The first step already says that another's tenant is not there."""
    response = world.client("requester").post("/break-glass/new/", FORM | {"tenant": tenant})
    assert response.status_code == status


def test_a_refused_deed_is_said_on_the_page(world: World) -> None:
    """Begin before anybody has approved: back to the page, with the reason."""
    client = world.client("requester")
    page = client.post(url(world.mine.ticket, "start"), follow=True).content.decode()
    assert "It is not approved yet." in page


@pytest.mark.parametrize("deed", ["start", "end", "withdraw", "open", "review"])
def test_the_requesters_deeds_are_the_requesters(world: World, deed: str) -> None:
    """Another operator of the same tenant sees the ticket, and is refused."""
    tickets.begin(world.mine.ticket, world.people["approver"])
    before = Ticket.objects.get(pk=world.mine.ticket.pk).state
    response = world.client("operator").post(url(world.mine.ticket, deed), {"text": WHY}, follow=True)
    assert response.status_code == 403 or b'class="message error"' in response.content
    assert not RouteGrant.objects.exists()
    assert Ticket.objects.get(pk=world.mine.ticket.pk).state == before


def test_the_live_part_is_sent_when_it_is_news(world: World) -> None:
    """204 while nothing changed; the part where something did; the whole page where the buttons did."""
    ticket, client = world.mine.ticket, world.client("requester")
    page = client.get(url(ticket)).content.decode()
    live = page.split('hx-get="')[1].split('"')[0].replace("&amp;", "&")
    assert client.get(live, headers=HTMX).status_code == 204
    Ticket.objects.filter(pk=ticket.pk).update(delivery_refused="wrong_set")
    changed = client.get(live, headers=HTMX)
    assert changed.status_code == 200
    assert "another set of approvers" in changed.content.decode()
    tickets.approve(world.people["approver"], ticket)
    assert client.get(live, headers=HTMX)["HX-Refresh"] == "true"


def test_the_inbox_counts_what_waits(world: World) -> None:
    """For an approver both tickets, until they have decided; for an operator none."""
    ann = world.client("approver")
    assert '<span class="count" title="wait for your approval">2</span>' in ann.get("/").content.decode()
    tickets.approve(world.people["approver"], world.mine.ticket)
    assert '<span class="count" title="wait for your approval">1</span>' in ann.get("/").content.decode()
    assert "wait for your approval" not in world.client("half staff").get("/").content.decode()


def test_an_inbox_shows_no_other_tenants_ticket(world: World) -> None:
    """To staff of one tenant, who approve nothing."""
    tickets.begin(world.other.ticket, world.people["approver"])
    page = world.client("half staff").get("/break-glass/").content.decode()
    assert "Zebra" not in page
    assert "Zebra" in world.client("approver").get("/break-glass/").content.decode()


def test_the_staffs_front_page_is_red_while_access_is_open(world: World) -> None:
    """With who has it, and reviews that are late; of tenants that the reader operates."""
    tickets.begin(world.mine.ticket, world.people["approver"])
    other = tickets.begin(world.other.ticket, world.people["approver"])
    services.ticket_end(actor=Actor.of(other.requester), ticket=other)
    Review.objects.update(due_at=timezone.now() - timedelta(minutes=1))
    page = world.client("operator").get("/admin/").content.decode()
    open_to = f"is open to {world.mine.ticket.requester} until"
    assert open_to in page
    assert "</a> owes a review since" in page
    half = world.client("half staff").get("/admin/").content.decode()
    assert open_to in half
    assert "owes a review" not in half


def test_a_look_at_a_ticket_is_its_tenants_to_know(world: World) -> None:
    """On record with the tenant, once for page and live part; a refusal there too, for who operates it."""
    client = world.client("half staff")
    client.get(url(world.mine.ticket))
    assert Entry.objects.latest("pk").action == "record.viewed"
    client.get(url(world.mine.ticket, "live"))
    client.post(url(world.mine.ticket, "start"))
    entries = list(Entry.objects.order_by("pk"))[-2:]
    assert [entry.action for entry in entries] == ["record.viewed", "request.refused"]
    for entry in entries:
        event = json.loads(entry.event)
        assert (event["tenant"], event["target"]) == (
            str(world.mine.tenant.pk),
            {"type": "ticket", "id": str(world.mine.ticket.pk)},
        )


def test_nothing_that_was_typed_is_taken_for_markup(world: World) -> None:
    """A reason is text, and an incident is a link of the web."""
    me = world.people["requester"]
    evil = '<script>alert(1)</script> & "quotes" to be shown as they are'
    ticket = tickets.ask(me, world.mine.tenant, reason=evil, incident="https://x.example.org/?a=1&b=2")
    page = world.client("approver").get(url(ticket)).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert 'href="https://x.example.org/?a=1&amp;b=2" rel="noopener noreferrer nofollow"' in page


@pytest.mark.parametrize("role", ["approver", "requester"])
@pytest.mark.parametrize("page", ["/break-glass/", "/break-glass/live/", "/break-glass/{ticket}/"])
def test_pages_ask_as_often_for_many_tickets_as_for_few(world: World, role: str, page: str) -> None:
    """Of those that wait, and of those that are over."""
    me, ann = world.people["requester"], world.people["approver"]

    def more(waiting: int, over: int) -> None:
        for _ in range(over):
            tickets.reject(ann, tickets.ask(me, world.mine.tenant), "Not this week.")
        for _ in range(waiting):
            tickets.ask(me, world.mine.tenant)

    more(waiting=1, over=1)
    few = counted(world, role, page)
    more(waiting=2, over=3)
    assert counted(world, role, page) == few


def test_who_asked_is_shown_as_it_was_signed(world: World) -> None:
    """With the account's name: of two people called alike, and after a change of name."""
    me, ann = world.people["requester"], world.client("approver")
    User.objects.filter(pk=me.pk).update(first_name="Ann", last_name="Approver")
    me.refresh_from_db()
    ticket = tickets.ask(me, world.mine.tenant)
    User.objects.filter(pk=me.pk).update(first_name="The", last_name="Owner")
    signed = f"Ann Approver ({me.username})"
    for page in (url(ticket), "/break-glass/"):
        text = ann.get(page).content.decode()
        assert signed in text, page
        assert "The Owner" not in text, page


def test_an_emergency_comes_before_all_else(world: World) -> None:
    """What waits is neither changed nor begun, and the page says why; so does the form."""
    waiting, me, ann = world.mine.ticket, world.people["requester"], world.people["approver"]
    tickets.approve(ann, waiting)
    emergency = tickets.ask(me, world.mine.tenant, kind="emergency", seconds=300)
    tickets.approve(ann, emergency)
    actor, client = Actor.of(me), world.client("requester")
    services.ticket_start(actor=actor, ticket=Ticket.objects.get(pk=emergency.pk))
    for step in ("end your emergency access", "write the review of your emergency access"):
        assert deeds(me, waiting) == {"withdraw"}
        assert "Before anything else" in client.get(url(waiting)).content.decode()
        for form in ("/break-glass/new/?tenant=acme", url(waiting, "edit")):
            text = client.get(form).content.decode()
            assert step in text, form
            assert "data-sign" not in text, form
        if step.startswith("end"):
            services.ticket_end(actor=actor, ticket=Ticket.objects.get(pk=emergency.pk))
    services.review_write(actor=actor, ticket=emergency, text="The disk was full; I have told them.")
    assert deeds(me, waiting) == {"edit", "withdraw", "start"}


def test_the_form_of_an_emergency_that_is_changed_counts_by_the_policy(world: World) -> None:
    """There is no choice of the kind any more that could tell the number."""
    me = world.people["requester"]
    tickets.approvers(world.people["approver"], world.people["operator"], emergency=2)
    tickets.named(world.mine.tenant)
    ticket = tickets.ask(me, world.mine.tenant, kind="emergency", seconds=300)
    text = world.client("requester").get(url(ticket, "edit")).content.decode()
    assert '<input type="hidden" name="kind" value="emergency" data-needs="2">' in text


def test_no_field_takes_more_words_than_are_kept(world: World) -> None:
    """A reason that is too long would be found out after it was typed, as access goes on."""
    text = world.client("approver").get(url(world.mine.ticket)).content.decode()
    fields = [one.partition(">")[0] for one in text.split('name="words"')[1:]]
    assert len(fields) == 2
    assert all('maxlength="500"' in one for one in fields)
