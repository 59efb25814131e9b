"""Answers that must not be believed, waited for, or followed."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from client import wire
from client.cookies import Cookies
from tests.client.conftest import Person
from tests.client.fake import Answer, Fake

CHALLENGE = ("POST", "/api/v1/sign-in/challenge/")
OVERVIEW = ("GET", "/api/v1/tenants/acme/keyring/")
ENTER = ("POST", "/api/v1/tenants/acme/enter/")


def test_a_challenge_for_another_portal_is_not_signed(fake: Fake, owner: Person) -> None:
    """A portal could else sign in elsewhere in our name."""
    before = len(fake.asked)
    fake.bend(*CHALLENGE, origin="https://portal.example.org")
    assert "not for itself" in owner.refused("keyring", "show", "acme")
    assert [asked.path for asked in fake.asked[before:]] == [CHALLENGE[1]]


@pytest.mark.parametrize("nonce", ["", "x", 7, None, "0" * 64 + "\n"])
def test_a_challenge_that_is_none(fake: Fake, owner: Person, nonce: object) -> None:
    fake.bend(*CHALLENGE, nonce=nonce)
    owner.refused("keyring", "show", "acme")


@pytest.mark.parametrize(
    "change",
    [
        {"slug": "other"},
        {"rp_id": "example.org"},
        {"origin": "http://acme.example.org"},
        {"origin": "http://evil.localhost"},
        {"tenant_id": None},
        {"tenant_id": "another"},
        {"registered": None},
        {"registered": [7]},
        {"registered": [{"kind": "device", "public_key": "zz"}]},
        {"guest": {"version": 1, "hash": "short"}},
        {"guest": []},
        {"current": {"document": {}, "signature": {}, "version": 1, "hash": ""}},
        {"current": {"document": {}}},
        {"role": 3},
    ],
)
def test_an_overview_that_is_none(fake: Fake, owner: Person, change: dict[str, Any]) -> None:
    fake.bend(*OVERVIEW, **change)
    owner.refused("keyring", "show", "acme")


@pytest.mark.parametrize("change", [{"hash": "0" * 64}, {"version": 2}])
def test_a_keyring_under_anothers_hash(fake: Fake, owner: Person, change: dict[str, Any]) -> None:
    def bend(answer: Answer) -> Answer:
        answer.document["current"] |= change
        return answer

    fake.bent[OVERVIEW] = bend
    assert "another one's version or hash" in owner.refused("keyring", "show", "acme")


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://portal.example.org/.portal/enter?ticket=abc"},
        {"origin": "http://portal.example.org"},
        {"origin": "http://deep.acme.portal.localhost"},
    ],
)
def test_a_way_that_leads_elsewhere(fake: Fake, owner: Person, change: dict[str, str]) -> None:
    fake.bend(*ENTER, **change)
    owner.refused("workspace", "ls", "acme")
    assert {asked.host for asked in fake.asked} == {f"portal.localhost:{fake.port}"}


@pytest.mark.parametrize(
    "tail", [".evil.org/.portal/enter?ticket=a", "/other?ticket=a", "@evil/", "/.portal/enter?ticket=a b"]
)
def test_a_url_that_only_begins_like_the_origin(fake: Fake, owner: Person, tail: str) -> None:
    fake.bend(*ENTER, url=fake.origin + tail)
    assert "does not lead there" in owner.refused("workspace", "ls", "acme")


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/.portal/enter", Answer(303, raw=b""), "did not open the way"),
        ("/.portal/enter", Answer(403, {"detail": "Used."}), "Used"),
        ("/v1/workspace", Answer(303, raw=b"", headers={"Location": "/"}), "redirect"),
        ("/v1/workspace", Answer(200, raw=b"<html>"), "not JSON"),
        ("/v1/workspace", Answer(200, {"entries": {}}), "entries"),
        ("/v1/workspace", Answer(200, []), "entries"),
        ("/v1/workspace", Answer(500, raw=b"\x1b[31m"), "status 500"),
        ("/v1/workspace", Answer(200, raw=b"[" * 200_000), "not JSON"),
    ],
)
def test_wrong_answers_on_the_way_and_in_the_guest(
    fake: Fake, owner: Person, path: str, answer: Answer, words: str
) -> None:
    fake.breaks("GET", path, answer)
    assert words in owner.refused("workspace", "ls", "acme")


@pytest.mark.parametrize(
    "change", [{"nonce": "0"}, {"runtime_id": "x"}, {"runtime_id": {"members": []}}, {"nonce": None}]
)
def test_a_guests_challenge_that_is_none(fake: Fake, owner: Person, change: dict[str, Any]) -> None:
    fake.bend("POST", "/v1/sessions/challenge", **change)
    owner.refused("workspace", "ls", "acme")
    assert not [asked for asked in fake.asked if asked.path == "/v1/sessions"]


def test_a_session_name_that_is_no_header(fake: Fake, owner: Person) -> None:
    fake.bend("POST", "/v1/sessions", session="a\r\nCookie: x")
    assert "proper name" in owner.refused("workspace", "ls", "acme")


def test_the_guests_refusals_are_shown_without_what_a_terminal_obeys(fake: Fake, owner: Person) -> None:
    fake.breaks("GET", "/v1/workspace", Answer(418, {"error": "x", "message": "a\x1b[2J\nb" + "c" * 1000}))
    told = owner.refused("workspace", "ls", "acme")
    assert "a?[2J?b" in told
    assert max(map(len, told.splitlines())) < 400


def test_an_endless_answer(fake: Fake, owner: Person) -> None:
    fake.breaks(*OVERVIEW, Answer(200, raw=b" " * (wire.MAX_ANSWER_BYTES + 1)))
    assert "more than" in owner.refused("keyring", "show", "acme")


def test_a_portal_that_does_not_answer(fake: Fake, owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "TIMEOUT", httpx.Timeout(0.3))
    fake.bent[OVERVIEW] = slowly(1.0)
    began = time.monotonic()
    assert "did not answer in time" in owner.refused("keyring", "show", "acme")
    assert time.monotonic() - began < 0.95


def test_an_answer_that_trickles(fake: Fake, owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece is in time, the whole is not."""
    monkeypatch.setattr(wire, "DEADLINE_SECONDS", -1.0)
    assert "did not answer in time" in owner.refused("keyring", "show", "acme")


def slowly(seconds: float) -> Callable[[Answer], Answer]:
    def wait(answer: Answer) -> Answer:
        time.sleep(seconds)
        return answer

    return wait


def test_a_line_that_breaks_off(fake: Fake, owner: Person) -> None:
    fake.breaks(*OVERVIEW, None)
    assert "broke the connection off" in owner.refused("keyring", "show", "acme")


def test_nobody_there(owner: Person) -> None:
    owner.portal = "http://portal.localhost:1"
    assert "cannot be reached" in owner.refused("keyring", "show", "acme")


def test_a_certificate_that_nobody_vouches_for(fake: Fake, owner: Person) -> None:
    """Plain HTTP where TLS is wanted: nothing is sent."""
    before = len(fake.asked)
    owner.portal = f"https://portal.localhost:{fake.port}"
    assert "cannot be reached" in owner.refused("keyring", "show", "acme")
    assert len(fake.asked) == before


def test_no_proxy_from_the_environment(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    owner.ok("keyring", "show", "acme")


def test_a_redirect_is_not_followed(fake: Fake, owner: Person) -> None:
    before = len(fake.asked)
    fake.breaks(*CHALLENGE, Answer(302, raw=b"", headers={"Location": f"{fake.portal}/elsewhere"}))
    assert "not followed" in owner.refused("keyring", "show", "acme")
    assert len(fake.asked) == before + 1


@pytest.mark.parametrize("missing", ["__Host-session", "__Host-csrf"])
def test_a_sign_in_without_its_cookies(fake: Fake, owner: Person, missing: str) -> None:
    """Without the one against forged requests nothing can be changed, and the person hears why."""

    def bend(answer: Answer) -> Answer:
        answer.cookies = {"__Host-session": "", **answer.cookies}
        if missing == "__Host-session":
            answer.cookies["__Host-session"] = ""
        else:
            del answer.cookies[missing]
        return answer

    fake.bent["POST", "/api/v1/sign-in/"] = bend
    owner.refused("keyring", "remove", "acme", owner.device.key.fingerprint, "--yes")
    owner.refused("workspace", "ls", "acme")


def test_tickets_are_not_told_with_the_requests(owner: Person) -> None:
    ended = owner.run("workspace", "ls", "acme")
    assert "/.portal/enter 303" in ended.err
    assert "ticket" not in ended.text


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("__Host-session=a1; Path=/; Secure; HttpOnly; SameSite=Lax", True),
        ("__Host-session=a1; secure; path=/", True),
        ("__Host-session=a1; Path=/", False),
        ("__Host-session=a1; Secure", False),
        ("__Host-session=a1; Secure; Path=/deep", False),
        ("__Host-session=a1; Secure; Path=/; Domain=portal.localhost", False),
        ("session=a1; Secure; Path=/", False),
        ("__Host-a b=a1; Secure; Path=/", False),
        ("__Host-session=a\r\nX: y; Secure; Path=/", False),
        ("__Host-session=; Secure; Path=/", False),
        ("__Host-session=a1; Secure; Path=/; Max-Age=0", False),
    ],
)
def test_which_cookies_are_kept(header: str, kept: bool) -> None:
    jar = Cookies()
    jar.take(header)
    assert (jar.get("__Host-session") is not None) is kept
    assert bool(jar.header()) is kept
    assert "a1" not in repr(jar)


def test_cookies_are_replaced_removed_and_few() -> None:
    jar = Cookies()
    jar.take("__Host-a=1; Secure; Path=/")
    jar.take("__Host-a=2; Secure; Path=/")
    assert jar.header() == {"Cookie": "__Host-a=2"}
    jar.take('__Host-a=""; Secure; Path=/; Max-Age=0')
    assert jar.header() == {}
    for number in range(100):
        jar.take(f"__Host-{number}=1; Secure; Path=/")
    assert len(jar.header()["Cookie"].split(";")) == 16
