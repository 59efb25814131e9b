"""What every answer carries: a strict policy, safe cookies, a plain page when something is wrong; and the lock."""

from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from tests.portal.conftest import World
from tests.portal.routes import routes

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("role", ["anonymous", "owner", "superuser"])
def test_every_answer_carries_the_headers(world: World, role: str) -> None:
    """Pages, redirects, refusals and the API alike."""
    client = world.client(role)
    for url in [*(route.url(world.mine) for route in routes() if "logout" not in route.path), "/nowhere/"]:
        headers = client.get(url).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, url
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Frame-Options"] == "DENY", url
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.parametrize("role", ["owner", "superuser"])
def test_no_page_holds_inline_script_or_style(world: World, role: str) -> None:
    """The policy would stop them; so none is written."""
    client = world.client(role)
    for url in (route.url(world.mine) for route in routes() if "logout" not in route.path):
        page = client.get(url).content.decode(errors="replace")
        assert "<style" not in page, url
        assert " style=" not in page, url
        assert "javascript:" not in page, url
        assert " onclick=" not in page, url
        for tag in page.split("<script")[1:]:
            head = tag.split(">", 1)[0]
            assert "src=" in head or "application/json" in head, (url, head)


def test_pages_of_people_are_not_kept_by_caches(world: World) -> None:
    """After signing out, the back button shows nothing."""
    client = world.client("operator")
    for url in ("/", "/t/acme/", "/t/acme/live/", "/admin/", "/admin/provisioning/runtime/", "/sign-in/"):
        assert "no-store" in client.get(url).headers["Cache-Control"], url


def test_cookies_are_bound_to_the_host(world: World) -> None:
    """``__Host-`` and its conditions; the session is out of scripts' reach."""
    client = Client()
    client.get("/sign-in/")
    client.post("/sign-in/", {"username": "stranger", "password": "correct horse battery"})
    session, csrf = client.cookies["__Host-session"], client.cookies["__Host-csrf"]
    for cookie in (session, csrf):
        assert cookie["secure"]
        assert cookie["path"] == "/"
        assert cookie["domain"] == ""
        assert cookie["samesite"] == "Lax"
    assert session["httponly"]


def sign_in(client: Client, password: str, username: str = "stranger", address: str = "192.0.2.1") -> Any:
    data = {"username": username, "password": password}
    return client.post("/sign-in/", data, REMOTE_ADDR=address)


def test_five_failures_lock(world: World) -> None:
    """The fifth says so, plainly, and the right password no longer helps; another person and address go on."""
    client = Client()
    for _ in range(4):
        page = sign_in(client, "wrong")
        assert "Name and password do not match. Try again." in page.content.decode()
        assert 'value="stranger"' in page.content.decode(), "the name is not lost"
    locked = sign_in(client, "wrong")
    assert locked.status_code == 429
    assert "Signing in from here is locked for 15 minutes. Wait, then try again." in locked.content.decode()
    right = sign_in(client, "correct horse battery")
    assert right.status_code == 429
    assert "__Host-session" not in client.cookies
    assert sign_in(Client(), "correct horse battery", username="member").status_code == 302
    assert sign_in(Client(), "correct horse battery", address="192.0.2.2").status_code == 302


def test_signing_in_leads_back_but_not_away(world: World) -> None:
    """``next`` is followed within the portal only."""
    data = {"username": "stranger", "password": "correct horse battery"}
    for given, led in [("/t/acme/", "/t/acme/"), ("https://evil.example/", "/"), ("//evil.example", "/")]:
        assert Client().post("/sign-in/", {**data, "next": given})["Location"] == led


@pytest.mark.parametrize("bad", ["a\x00b", "x" * 5000, "ü" * 100, ""])
def test_a_malformed_sign_in_is_a_failed_one(world: World, bad: str) -> None:
    """The form again, with the same words for every cause."""
    response = sign_in(Client(raise_request_exception=False), bad, username=bad or "stranger")
    assert response.status_code == 200
    assert "Name and password do not match." in response.content.decode()


@pytest.mark.parametrize(
    ("url", "status", "title"), [("/nowhere/", 404, "Not found"), ("/t/zebra/", 404, "Not found")]
)
def test_missing_pages_are_plain(world: World, url: str, status: int, title: str) -> None:
    """What it means and where to go, nothing of ours."""
    response = world.client("owner").get(url)
    page = response.content.decode()
    assert response.status_code == status
    assert f"<h1>{title}</h1>" in page
    assert 'href="/"' in page
    assert "zebra" not in page


def test_a_fault_of_ours_is_plain(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """500: our fault, nothing kept, try again; no text of the exception."""

    def broken(*args: object) -> None:
        raise RuntimeError("a secret in an exception")

    monkeypatch.setattr("portal.views.tenants_for", broken)
    response = world.client("owner").get("/t/acme/")
    assert response.status_code == 500
    page = response.content.decode()
    assert "<h1>Our fault</h1>" in page
    assert "Try again in a minute." in page
    assert "secret" not in page
    assert "Traceback" not in page


def test_a_foreign_host_name_is_refused(world: World) -> None:
    """Names that are not ours get the plain 400."""
    response = Client().get("/sign-in/", headers={"host": "evil.example"})
    assert response.status_code == 400
    assert "evil.example" not in response.content.decode()


def test_what_the_error_pages_link_to_is_there() -> None:
    """They stand without the template engine's help, so their links are checked here."""
    assert finders.find("portal/portal.css")
    assert finders.find("portal/icon.svg")


def test_health_says_nothing_else() -> None:
    """For strangers: one word."""
    response = Client().get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
