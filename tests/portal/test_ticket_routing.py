"""An operator's way to a guest: by an active ticket of their own, to the break-glass page, asked anew each time."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from audit.context import Actor
from audit.models import Entry
from breakglass import triggers
from breakglass.models import Intent, Ticket
from breakglass.services.endings import ticket_revoke
from breakglass.services.tickets import ticket_end
from guest.agent.gate import ACCESS, UNDER_TICKETS
from portal import routed_paths, ticket_passages
from portal.models import RouteGrant
from portal.passages import RouteRefused
from portal.routing import COOKIE, route_open_ticket
from protocol.tokens import (
    BreakGlassToken,
    Expected,
    TokenError,
    body_hash,
    public_key,
    verify_break_glass_token,
    verify_runtime_token,
)
from provisioning.models import Runtime
from tenants.models import Tenant
from tests.breakglass.access import Staffed, ready_machine, staffed
from tests.breakglass.staff import put_in_force

pytestmark = pytest.mark.django_db
HOST = "acme.portal.localhost:8000"
LIST = "/v1/break-glass/list?path=reports"


@pytest.fixture
def people(
    tenant: Tenant, owner: User, make_user: Callable[..., User], image: Any, make_host: Any
) -> Staffed:
    ready_machine(tenant, make_host(), image, "10.83.0.2:8443")
    return staffed(tenant, owner, make_user)


@pytest.fixture
def ticket(people: Staffed) -> Ticket:
    """Active, and taken by its guest."""
    found = people.begun()
    Ticket.objects.filter(pk=found.pk).update(delivered_at=timezone.now())
    return Ticket.objects.get(pk=found.pk)


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def opened(client: Client, actor: Actor, ticket: Ticket) -> str:
    return route_open_ticket(actor=actor, ticket=ticket, session_key=client.session.session_key or "")


@pytest.fixture
def greta(people: Staffed) -> Client:
    return browser(people.greta.user)


@pytest.fixture
def there(people: Staffed, greta: Client, ticket: Ticket) -> Client:
    """A browser with the route's cookie and nothing of the portal's."""
    split = urlsplit(opened(greta, people.greta.actor, ticket))
    found = Client()
    response = found.get(f"{split.path}?{split.query}", headers={"Host": split.netloc})
    assert (response.status_code, response.headers["Location"]) == (302, "/break-glass")
    assert response.cookies[COOKIE]["httponly"]
    return found


def ask(there: Client, method: str = "GET", path: str = LIST, host: str = HOST) -> Any:
    headers = {"Host": host, "Portal-Method": method, "Portal-Path": path}
    return there.get("/.portal/authorize", headers=headers)


def token_of(answer: Any, ticket: Ticket, path: str = LIST) -> BreakGlassToken:
    now = int(timezone.now().timestamp())
    usual = (str(ticket.runtime_id), str(ticket.tenant_id), "GET", path, body_hash(b""), now)
    return verify_break_glass_token(
        answer.headers["Portal-Token"], [public_key(settings.ROUTE_KEY)], Expected(*usual, routed=True)
    )


def noted(action: str) -> list[Any]:
    return [json.loads(row.event)["data"] for row in Entry.objects.filter(action=action).order_by("pk")]


def test_the_whole_way(people: Staffed, ticket: Ticket, there: Client) -> None:
    """A token for this ticket, scopes, paths and request; written down before it is given."""
    answer = ask(there)
    assert (answer.status_code, answer.headers["Portal-Guest"]) == (204, "10.83.0.2:8443")
    token = token_of(answer, ticket)
    assert (token.ticket, token.scopes, token.paths) == (
        str(ticket.pk),
        ["status", "workspace:read"],
        ["reports"],
    )
    assert (token.sub, token.role, token.bsh) == (f"user:{people.greta.user.pk}", "break-glass", None)
    assert token.digest == ticket.revisions.get().digest
    intent = Intent.objects.get()
    assert (intent.token, intent.route, intent.method) == (token.jti, "/v1/break-glass/list", "GET")
    assert noted("break_glass.routed") == [
        {"method": "GET", "path": "/v1/break-glass/list", "token": token.jti}
    ]
    assert [len(noted(action)) for action in ("break_glass.opened", "break_glass.entered")] == [1, 1]
    assert not noted("request.routed")
    with pytest.raises(TokenError):
        now = int(timezone.now().timestamp())
        usual = (str(ticket.runtime_id), str(ticket.tenant_id), "GET", LIST, body_hash(b""), now)
        verify_runtime_token(
            answer.headers["Portal-Token"], [public_key(settings.ROUTE_KEY)], Expected(*usual, routed=True)
        )


def test_a_spent_link_leads_back_to_the_tickets(people: Staffed, greta: Client, ticket: Ticket) -> None:
    """Operators are no members: the page of the tenant's machine would turn them away."""
    split = urlsplit(opened(greta, people.greta.actor, ticket))
    link = f"{split.path}?{split.query}"
    assert Client().get(link, headers={"Host": split.netloc}).status_code == 302
    again = Client().get(link, headers={"Host": split.netloc})
    assert again.status_code == 401
    assert f'href="{settings.BASE_URL}/break-glass/"' in again.content.decode()


def test_a_token_never_outlives_its_access(ticket: Ticket) -> None:
    """A minute at most, and not a second beyond the end; at the end there is none."""
    assert ticket.access_until is not None
    end = int(ticket.access_until.timestamp())
    for before, left in ((600, 60), (60, 60), (59, 59), (1, 1)):
        token = ticket_passages.token_for(ticket, method="GET", path=LIST, now=end - before)
        assert token.exp - (end - before) == left
    with pytest.raises(RouteRefused, match="over"):
        ticket_passages.token_for(ticket, method="GET", path=LIST, now=end)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/workspace",
        "/v1/workspace/files?path=reports",
        "/v1/sessions",
        "/v1/break-glass/",
        "/v1/break-glass/../workspace",
        "/v1/break-glass%2Flist",
        "//v1/break-glass",
        "/break-glass/../",
        "/break-glassy",
        "/v1/grants",
        "/v1/break-glass?" + "x" * 5000,
    ],
)
def test_a_ticket_leads_nowhere_else(there: Client, path: str) -> None:
    """No member's page, no control route, nothing that another program might read as one."""
    answer = ask(there, path=path)
    assert (answer.status_code, answer.headers["Portal-Reason"]) == (403, "not_break_glass")
    assert "Portal-Token" not in answer.headers
    assert not Intent.objects.exists()


def test_every_route_under_tickets_has_its_name() -> None:
    assert {route for route, access in ACCESS.items() if access in UNDER_TICKETS} == routed_paths.BREAK_GLASS


def _revoke(people: Staffed, ticket: Ticket, greta: Client) -> None:
    ticket_revoke(actor=people.anna.actor, ticket=ticket)


def _done(people: Staffed, ticket: Ticket, greta: Client) -> None:
    ticket_end(actor=people.greta.actor, ticket=ticket)


def _time(people: Staffed, ticket: Ticket, greta: Client) -> None:
    """The clock is past its end, and no sweep has been."""
    triggers.remove_rules(connection)
    late = timezone.now() - timedelta(seconds=700)
    over = timezone.now() - timedelta(seconds=1)
    Ticket.objects.filter(pk=ticket.pk).update(asked_at=late, started_at=late, access_until=over)
    triggers.install(connection)


def _leave(people: Staffed, ticket: Ticket, greta: Client) -> None:
    people.greta.user.user_permissions.clear()


def _disable(people: Staffed, ticket: Ticket, greta: Client) -> None:
    User.objects.filter(pk=people.greta.user.pk).update(is_active=False)


def _retire(people: Staffed, ticket: Ticket, greta: Client) -> None:
    type(people.greta.passkey).objects.filter(user=people.greta.user).update(retired_at=timezone.now())


def _new_set(people: Staffed, ticket: Ticket, greta: Client) -> None:
    put_in_force([people.anna, people.ben], [people.anna, people.ben], 2)


def _close(people: Staffed, ticket: Ticket, greta: Client) -> None:
    Runtime.objects.update(access_closed_by="owner")


def _stop(people: Staffed, ticket: Ticket, greta: Client) -> None:
    Runtime.objects.update(phase="stopped")


def _sign_out(people: Staffed, ticket: Ticket, greta: Client) -> None:
    greta.post("/sign-out/")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (_revoke, 403),
        (_done, 403),
        (_time, 403),
        (_leave, 403),
        (_disable, 401),
        (_retire, 403),
        (_new_set, 403),
        (_close, 403),
        (_stop, 403),
        (_sign_out, 401),
    ],
)
def test_what_ends_it(
    people: Staffed, ticket: Ticket, greta: Client, there: Client, change: Any, status: int
) -> None:
    """Asked anew with each request, and by the database: no sweep and no message has to come first."""
    assert ask(there).status_code == 204
    change(people, ticket, greta)
    refused = ask(there)
    assert (refused.status_code, "Portal-Token" in refused.headers) == (status, False)
    assert Intent.objects.count() == 1
    with pytest.raises(RouteRefused):
        if status == 401 and change is _sign_out:
            raise RouteRefused(401, "signed_out", "There is nobody to ask any more.")
        opened(greta, Actor.of(User.objects.get(pk=people.greta.user.pk)), ticket)


def test_only_the_requester(people: Staffed, ticket: Ticket) -> None:
    """Not an approver, not the owner, not a superuser."""
    for actor in (people.anna.actor, people.ben.actor, people.house.actor()):
        with pytest.raises(RouteRefused):
            route_open_ticket(actor=actor, ticket=ticket, session_key="x")
    assert not RouteGrant.objects.exists()


@pytest.mark.parametrize("state", ["pending", "approved"])
def test_not_before_it_is_begun(people: Staffed, greta: Client, state: str) -> None:
    ticket = people.asked()
    if state == "approved":
        ticket = people.approved(ticket)
    assert ticket.state == state
    with pytest.raises(RouteRefused):
        opened(greta, people.greta.actor, ticket)


def test_not_before_the_guest_has_it(people: Staffed, greta: Client) -> None:
    """The person is told what to wait for, or what the guest says."""
    ticket = people.begun()
    with pytest.raises(RouteRefused, match="few seconds"):
        opened(greta, people.greta.actor, ticket)
    Ticket.objects.filter(pk=ticket.pk).update(delivery_refused="wrong_set")
    with pytest.raises(RouteRefused, match="wrong_set"):
        opened(greta, people.greta.actor, ticket)


def test_a_ticket_is_to_one_machine(there: Client) -> None:
    assert ask(there, host="zebra.portal.localhost:8000").status_code == 401


def test_a_member_is_not_an_operator(people: Staffed, ticket: Ticket, there: Client) -> None:
    """Nor the other way round: the owner's way gives a member's token, on break-glass paths too."""
    owner = browser(people.house.people["owner"])
    split = urlsplit(str(owner.post("/t/acme/open/").headers["Location"]))
    client = Client()
    client.get(f"{split.path}?{split.query}", headers={"Host": split.netloc})
    answer = ask(client)
    assert answer.status_code == 204
    with pytest.raises(TokenError):
        token_of(answer, ticket)


def test_no_token_without_an_entry(there: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1: what cannot be recorded is not routed, and no intent stays."""

    def full(**given: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("portal.ticket_passages.record", full)
    there.raise_request_exception = False
    refused = ask(there)
    assert (refused.status_code, "Portal-Token" in refused.headers) == (500, False)
    assert not Intent.objects.exists()


def test_nothing_that_was_typed_is_on_record(there: Client) -> None:
    ask(there, "PUT", "/v1/break-glass/files?path=secret/plan.txt")
    entry = Entry.objects.filter(action="break_glass.routed").get()
    assert "secret" not in entry.event.lower()
    assert Intent.objects.get().route == "/v1/break-glass/files"


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "get", "SECRET"])
def test_a_ticket_leads_to_the_agents_own_methods(there: Client, method: str) -> None:
    """For others the agent answers before its gate, without a receipt: each would be an alarm here."""
    answer = ask(there, method)
    assert (answer.status_code, answer.headers["Portal-Reason"]) == (403, "not_break_glass")
    assert "Portal-Token" not in answer.headers
    assert not Intent.objects.exists()


def test_requests_of_a_ticket_are_bounded(
    there: Client, ticket: Ticket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own minute: the tenant's plan is not used up by staff."""
    monkeypatch.setattr(ticket_passages, "PER_MINUTE", 3)
    answers = [ask(there).status_code for _ in range(5)]
    assert answers.count(204) <= 3
    assert answers[-1] == 403
    assert Entry.objects.filter(action="rate.refused").count() == 1
