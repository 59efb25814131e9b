"""The way to a runtime's origin: one-time tickets, a cookie that ends with its session, a token per request."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from audit.models import Entry
from guest.agent.gate import ACCESS, ROUTED, UNDER_TICKETS
from portal import routed_paths
from portal.models import RouteGrant
from portal.routing import COOKIE, slug_of
from protocol.tokens import Expected, TokenError, body_hash, public_key, verify_runtime_token
from provisioning.fleet_keys import token_seed
from provisioning.models import Runtime
from tests.portal.conftest import World

pytestmark = pytest.mark.django_db
HOST = "acme.portal.localhost:8000"


@pytest.fixture(autouse=True)
def reachable(world: World) -> None:
    Runtime.objects.update(agent_address="10.83.0.2:8443")


def opened(client: Client, slug: str = "acme") -> str:
    """The URL that the button leads to."""
    return str(client.post(f"/t/{slug}/open/").headers["Location"])


def entered(client: Client) -> Client:
    """A browser with the route's cookie and nothing of the portal's."""
    split = urlsplit(opened(client))
    there = Client()
    response = there.get(f"{split.path}?{split.query}", headers={"Host": split.netloc})
    assert (response.status_code, response.headers["Location"]) == (302, "/")
    return there


def ask(there: Client, method: str = "GET", path: str = "/v1/workspace", host: str = HOST) -> Any:
    headers = {"Host": host, "Portal-Method": method, "Portal-Path": path}
    return there.get("/.portal/authorize", headers=headers)


def test_the_whole_way(world: World, settings: Any) -> None:
    """Ticket, cookie, token: for this runtime, this member, this very request, and with the route key only."""
    there = entered(world.client("owner"))
    answer = ask(there, "GET", "/v1/workspace?x=1")
    assert (answer.status_code, answer.headers["Portal-Guest"]) == (204, "10.83.0.2:8443")
    runtime = world.mine.runtime
    assert answer.headers["Portal-Runtime"] == str(runtime.pk)
    now = int(timezone.now().timestamp())
    usual = (str(runtime.pk), str(runtime.tenant_id), "GET", "/v1/workspace?x=1", body_hash(b""), now)
    key = public_key(settings.ROUTE_KEY)
    token = verify_runtime_token(answer.headers["Portal-Token"], [key], Expected(*usual, routed=True))
    assert (token.sub, token.role, token.bsh) == (f"user:{world.people['owner'].pk}", "owner", None)
    with pytest.raises(TokenError):  # a token without a body's hash is for routed routes alone
        verify_runtime_token(answer.headers["Portal-Token"], [key], Expected(*usual))
    with pytest.raises(TokenError):
        verify_runtime_token(
            answer.headers["Portal-Token"], [public_key(token_seed())], Expected(*usual, routed=True)
        )


def test_the_cookie_is_the_origins_own(world: World) -> None:
    """Secure, not for scripts, for this host only; and it is not the ticket."""
    url = opened(world.client("owner"))
    split = urlsplit(url)
    response = Client().get(f"{split.path}?{split.query}", headers={"Host": split.netloc})
    cookie = response.cookies[COOKIE]
    assert (cookie["secure"], cookie["httponly"], cookie["path"], cookie["domain"]) == (True, True, "/", "")
    assert cookie.value not in url


def test_a_ticket_is_good_once_here_and_now(world: World) -> None:
    """Again, later, or at another runtime's origin it opens nothing."""
    split = urlsplit(opened(world.client("owner")))
    elsewhere = {"Host": "zebra.portal.localhost:8000"}
    assert Client().get(f"{split.path}?{split.query}", headers=elsewhere).status_code == 401
    for expected in (302, 401):
        done = Client().get(f"{split.path}?{split.query}", headers={"Host": split.netloc})
        assert done.status_code == expected
    split = urlsplit(opened(world.client("owner")))
    RouteGrant.objects.filter(entered=False).update(expires_at=timezone.now() - timedelta(seconds=1))
    late = Client().get(f"{split.path}?{split.query}", headers={"Host": split.netloc})
    assert late.status_code == 401
    assert b"used" in late.content


@pytest.mark.parametrize("role", ["stranger", "half staff", "operator", "superuser", "anonymous"])
def test_only_members_open(world: World, role: str) -> None:
    """Staff operate a machine; they do not go in. Who cannot see the tenant gets 404."""
    before = RouteGrant.objects.count()
    response = world.client(role).post("/t/acme/open/")
    assert RouteGrant.objects.count() == before
    assert ".portal/enter" not in response.headers.get("Location", "")
    assert response.status_code == (404 if role == "stranger" else 302)


def test_a_route_is_to_one_runtime(world: World) -> None:
    """The cookie of one origin is worth nothing at another, even if the browser could be made to send it."""
    there = entered(world.client("owner"))
    assert ask(there).status_code == 204
    assert ask(there, host="zebra.portal.localhost:8000").status_code == 401


def _sign_out(world: World, client: Client) -> None:
    client.post("/sign-out/")


def _leave(world: World, client: Client) -> None:
    world.mine.membership.delete()


def _disable(world: World, client: Client) -> None:
    User.objects.filter(pk=world.people["owner"].pk).update(is_active=False)


def _new_password(world: World, client: Client) -> None:
    owner = world.people["owner"]
    owner.set_password("another battery, staple")
    owner.save()


def _close(world: World, client: Client) -> None:
    Runtime.objects.update(access_closed_by="staff")


def _stop(world: World, client: Client) -> None:
    Runtime.objects.update(phase="stopped")


def _lapse(world: World, client: Client) -> None:
    RouteGrant.objects.update(expires_at=timezone.now())


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (_sign_out, 401),
        (_leave, 403),
        (_disable, 401),
        (_new_password, 401),
        (_close, 403),
        (_stop, 403),
        (_lapse, 401),
    ],
)
def test_what_ends_a_route(world: World, change: Any, status: int) -> None:
    """Asked anew with each request: signed out, left, disabled, closed, stopped, lapsed."""
    client = world.client("owner")
    there = entered(client)
    assert ask(there).status_code == 204
    change(world, client)
    refused = ask(there)
    assert (refused.status_code, "Portal-Token" in refused.headers) == (status, False)


def test_every_routed_request_is_on_record(world: World) -> None:
    """With member, method and route; a file's name and the query stay the tenant's."""
    there = entered(world.client("owner"))
    ask(there, "PUT", "/v1/workspace/plans/secret.txt?x=secret")
    entry = Entry.objects.filter(action="request.routed").get()
    assert (entry.tenant_id, entry.actor_id) == (world.mine.tenant.pk, str(world.people["owner"].pk))
    assert '"path":"/v1/workspace"' in entry.event
    assert "secret" not in entry.event


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "/"),
        ("/?q=secret", "/"),
        ("/gateway/secret", "/gateway"),
        ("/v1/workspace/secret", "/v1/workspace"),
        ("/v1/secret", "unknown"),
        ("/secret@example.com/v1/jobs", "unknown"),
        ("/v1/jobs%2Fsecret", "unknown"),
        ("/v1//secret", "unknown"),
        ("secret", "unknown"),
        ("/" + "secret" * 300, "unknown"),
    ],
)
def test_nothing_that_was_typed_is_on_record(world: World, path: str, shown: str) -> None:
    """An entry is for ever: it names what the agent has named, and leaves out all else."""
    there = entered(world.client("owner"))
    assert ask(there, "SECRET", path).status_code == 204
    entry = Entry.objects.filter(action="request.routed").get()
    assert json.loads(entry.event)["data"] == {"method": "unknown", "path": shown}
    assert "secret" not in entry.event.lower()


def test_every_route_of_the_agent_has_its_name() -> None:
    """All that the proxy reaches, by its first two parts; none that it does not."""
    reached = [
        (method, path.partition("{")[0].rstrip("/") or "/")
        for (method, path), access in ACCESS.items()
        if access in ROUTED - UNDER_TICKETS
    ]
    assert {routed_paths.named(path) for _, path in reached} == routed_paths.BEGINNINGS
    assert {method for method, _ in reached} <= routed_paths.METHODS


def test_no_token_without_an_entry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1: what cannot be recorded is not routed."""
    there = entered(world.client("owner"))

    def full(**given: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("portal.routing.record", full)
    there.raise_request_exception = False
    refused = ask(there)
    assert (refused.status_code, "Portal-Token" in refused.headers) == (500, False)


def test_no_page_of_the_portal_on_a_runtimes_origin(world: World) -> None:
    """Where a guest's pages are, the portal has two URLs and no session."""
    client = world.client("superuser")
    for path in ("/", "/admin/", "/sign-in/", "/healthz", "/api/v1/runtimes/", "/t/acme/"):
        assert client.get(path, headers={"Host": HOST}).status_code == 404
    assert client.get("/.portal/authorize").status_code == 404, "nor the other way round"


@pytest.mark.parametrize(
    ("host", "slug"),
    [
        ("acme.portal.localhost:8000", "acme"),
        ("ACME.portal.localhost", "acme"),
        ("portal.localhost:8000", ""),
        ("a.b.portal.localhost", ""),
        ("acme.portal.localhost.evil", ""),
        ("portal.localhost.evil", ""),
    ],
)
def test_which_host_is_a_runtimes(host: str, slug: str) -> None:
    assert slug_of(host) == slug


def test_the_address_comes_from_the_proxy_alone(world: World) -> None:
    """Locking out counts addresses, so a stranger must not choose his own."""
    from portal.middleware import ProxyMiddleware

    seen: list[str] = []

    def note(request: Any) -> Any:
        seen.append(request.META["REMOTE_ADDR"])

    for remote in ("", "127.0.0.1", "192.0.2.7"):
        from django.test import RequestFactory

        made = RequestFactory().get("/", headers={"Portal-Address": "198.51.100.1"})
        made.META["REMOTE_ADDR"] = remote
        ProxyMiddleware(note)(made)
    assert seen == ["198.51.100.1", "198.51.100.1", "192.0.2.7"]
