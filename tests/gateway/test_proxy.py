"""Members' requests through a real agent to a gateway that tells what it was given."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from guest.agent.gate import RATE_BURST
from tests.gateway.conftest import CHAT, Stage, staged, wait_for
from tests.guest.files import Person, Reply
from tests.guest.test_cookies import LAPTOP, begin, value
from tests.guest.test_gate import call
from tests.protocol.people import ORIGIN

FORGED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=127.0.0.1",
    "X-Real-IP": "127.0.0.1",
    "x-openclaw-scopes": "operator.admin",
    "X-OpenClaw-Agent-Id": "other",
    "X-OpenClaw-Session-Key": "other",
    "Proxy-Authorization": "Basic eDp5",
    "TE": "trailers",
}


@pytest.fixture
def ready(stage: Stage) -> Stage:
    stage.start()
    return stage


def heard(reply: Reply) -> list[tuple[str, str]]:
    assert reply.status == 200, reply.body
    return [(name, text) for name, text in reply.document["headers"]]


def ask_forged(person: Person, method: str, path: str, forged: dict[str, str], body: bytes = b"") -> Reply:
    line = person.line()
    line.request(method, path, body or None, person.headers(method, path, sha256(body).hexdigest()) | forged)
    got = line.getresponse()
    try:
        return Reply(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
    finally:
        line.close()


def names(stage: Stage) -> dict[str, Any]:
    return dict(stage.launcher.facts["config"]["gateway"]["auth"]["trustedProxy"])


def test_what_the_gateway_hears(ready: Stage) -> None:
    """The agent's four headers, and of the caller's only what is on the list."""
    names_ = names(ready)
    reply = ready.get("/gateway/a/b?c=d", Accept="text/html", X_Custom="1")
    told = dict(heard(reply))
    assert len(told) == len(heard(reply)), "none of them twice"
    assert told[names_["userHeader"]] == names_["allowUsers"][0]
    assert told[names_["requiredHeaders"][0]]
    assert told["x-forwarded-for"] == "203.0.113.5"
    assert told["x-openclaw-scopes"] == "operator.read,operator.write,operator.approvals"
    assert told.keys() == {"host", "accept", names_["userHeader"], names_["requiredHeaders"][0], "x-forwarded-for",
                           "x-openclaw-scopes"} | (told.keys() & {"accept-encoding", "connection"})  # fmt: skip
    assert reply.document["path"] == "/gateway/a/b?c=d"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/gateway/x"), ("GET", "/gateway-api/v1/models"), ("POST", CHAT)]
)
def test_forged_headers(ready: Stage, method: str, path: str) -> None:
    """An address, a scope, a name that the caller gives itself: not one of them arrives."""
    names_ = names(ready)
    forged = FORGED | {names_["userHeader"]: "somebody", names_["requiredHeaders"][0].upper(): "2"}
    body = b'{"model": "openclaw"}' if method == "POST" else b""
    told = heard(ask_forged(ready.person, method, path, forged, body))
    values = {text for _, text in told}
    assert not values & {"127.0.0.1", "evil.example", "operator.admin", "other", "somebody", "2", "trailers"}
    assert [text for name, text in told if name == "x-forwarded-for"] == ["203.0.113.5"]
    assert [text for name, text in told if name == names_["userHeader"]] == names_["allowUsers"]
    assert not {name for name, _ in told} & {
        "authorization",
        "cookie",
        "portal-session",
        "portal-proof",
        "forwarded",
    }


def test_a_member_may_less(ready: Stage) -> None:
    told = dict(heard(ready.another().ask("GET", "/gateway/x")))
    assert told["x-openclaw-scopes"] == "operator.read,operator.write"


@pytest.mark.parametrize(
    "path",
    ["/gateway/../v1/models", "/gateway/%2e%2e/readyz", "/gateway/..%2freadyz", "/gateway//x", "/gateway/a\\b",
     "/gateway/%00", "/gateway/%252e%252e/x", "/gateway/;x=/../y"],
)  # fmt: skip
def test_paths_that_lead_elsewhere(ready: Stage, path: str) -> None:
    reply = ready.get(path)
    assert reply.status in {400, 404}, reply.body
    assert b'"path"' not in reply.body


def test_other_parts_of_the_gateway_are_not_there(ready: Stage) -> None:
    """Its health, its other API, other methods: only what is in the table of access."""
    for method, path in (("GET", "/gateway-api/v1/responses"), ("GET", "/gateway-api/readyz"), ("GET", "/readyz"),
                         ("POST", "/gateway/x"), ("PUT", "/gateway/x"), ("DELETE", CHAT), ("GET", "/gatewayx")):  # fmt: skip
        assert ready.person.ask(method, path).status in {404, 405}, path


def test_a_foreign_origin(ready: Stage) -> None:
    for origin in ("http://zebra.portal.localhost:8000", "null", "http://portal.localhost:8000", ""):
        for method, path in (("GET", "/gateway/x"), ("POST", CHAT)):
            refused = ready.person.ask(method, path, b"", Origin=origin)
            assert (refused.status, refused.code) == (403, "cross_origin")
    assert dict(heard(ready.get("/gateway/x", Origin=ORIGIN)))["origin"] == ORIGIN


def test_a_hostile_answer(ready: Stage) -> None:
    """No cookie, no cache, no word about other pages of this origin; the page is fenced in."""
    reply = ready.get("/gateway/hostile")
    assert reply.body == b"<script>1</script>"
    line = ready.person.line()
    line.request(
        "GET",
        "/gateway/hostile",
        None,
        ready.person.headers("GET", "/gateway/hostile", sha256(b"").hexdigest()),
    )
    raw = line.getresponse().getheaders()
    line.close()
    told = [name.lower() for name, _ in raw]
    assert set(told) <= {"content-type", "content-length", "date", "server", "content-security-policy",
                         "x-content-type-options", "referrer-policy", "cache-control", "cross-origin-opener-policy",
                         "cross-origin-resource-policy", "cross-origin-embedder-policy", "permissions-policy"}  # fmt: skip
    assert reply.headers["cache-control"] == "no-store"
    assert told.count("content-security-policy") == 1, "the gateway's own asked for reports elsewhere"
    assert "publickey-credentials-get=()" in reply.headers["permissions-policy"]
    assert reply.headers["cross-origin-opener-policy"] == "same-origin"
    own = ready.get("/gateway/own-policy")
    assert "sha256-abc" in own.headers["content-security-policy"]


def test_redirects_stay_inside(ready: Stage) -> None:
    assert ready.get("/gateway/redirect/?to=/gateway/y").headers["location"] == "/gateway/y"
    for to in ("/v1/session", "https://evil.example/", "/gateway/%252e%252e/"):
        reply = ready.get(f"/gateway/redirect/?to={to}")
        assert (reply.status, reply.headers.get("location")) == (302, None)


def test_workers_and_frames(ready: Stage) -> None:
    """What would outlive the page, or stand in another, is refused."""
    for more in (
        {"Service_Worker": "script"},
        {"Sec_Fetch_Dest": "serviceworker"},
        {"Sec_Fetch_Dest": "iframe"},
    ):
        assert ready.get("/gateway/sw.js", **more).code == "not_in_a_page"


def test_the_api_gives_data_only(ready: Stage) -> None:
    """Nothing there is a page of this origin."""
    reply = ready.get("/gateway-api/v1/models")
    assert reply.headers["content-type"].startswith("application/json")
    assert "sandbox" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(("size", "status"), [(64 * 1024 + 1, 200), (1 << 20, 200), ((1 << 20) + 1, 413)])
def test_how_large_a_body_may_be(ready: Stage, size: int, status: int) -> None:
    """Whole to the byte, or refused; elsewhere the limit is what it was."""
    body = b"x" * size
    try:
        reply = ready.person.ask("POST", CHAT, body)
    except (BrokenPipeError, ConnectionResetError):
        assert status == 413
        return
    assert reply.status == status
    if status == 200:
        assert reply.document["body"] == sha256(body).hexdigest()


def test_the_larger_limit_is_that_routes_alone(ready: Stage) -> None:
    body = json.dumps({"model": "x" * 70_000}).encode()
    assert ready.person.ask("PUT", "/v1/gateway/model", body).status == 413


def test_a_stream_comes_as_it_is_made(ready: Stage) -> None:
    """And ends within a second of its member's session."""
    body = json.dumps({"stream": True}).encode()
    line = ready.person.line()
    line.request("POST", CHAT, body, ready.person.headers("POST", CHAT, sha256(body).hexdigest()))
    answer = line.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    assert answer.getheader("Set-Cookie") is None
    assert b'"0 "' in answer.readline()
    call(ready.agent, ready.site, "DELETE", "/v1/sessions")
    began = time.monotonic()
    with pytest.raises((http.client.HTTPException, ConnectionError, OSError)):
        while answer.readline():
            pass
        raise http.client.IncompleteRead(b"")
    assert time.monotonic() - began < 1
    line.close()


def test_a_silent_gateway_does_not_hold_on_to_a_request(ready: Stage) -> None:
    """Withdrawn while the gateway says nothing: cut all the same."""
    line = ready.person.line()
    line.request(
        "GET",
        "/gateway/silent",
        None,
        ready.person.headers("GET", "/gateway/silent", sha256(b"").hexdigest()),
    )
    time.sleep(0.3)
    began = time.monotonic()
    ready.agree(agents=False)
    assert line.getresponse().status == 503
    assert time.monotonic() - began < 1
    line.close()


def test_many_at_once(ready: Stage) -> None:
    """A member has so many streams, and another member still gets one."""
    body = json.dumps({"stream": True}).encode()

    def open_one(person: Person) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        line = person.line()
        line.request("POST", CHAT, body, person.headers("POST", CHAT, sha256(body).hexdigest()))
        return line, line.getresponse()

    held = [open_one(ready.person) for _ in range(4)]
    assert [answer.status for _, answer in held] == [200] * 4
    assert open_one(ready.person)[1].status == 429
    other = open_one(ready.another())
    assert other[1].status == 200
    for line, _ in (*held, other):
        line.close()
    wait_for(lambda: ready.person.ask("POST", CHAT, b"{}").status == 200)


def test_a_page_of_many_files_is_within_the_rate(ready: Stage) -> None:
    """One person's browser loads fifty files at once."""
    from protocol.tokens import sign
    from tests.guest.fleet import TOKEN_SEED, token

    person, empty, seen = ready.person, sha256(b"").hexdigest(), []
    for number in range(50):
        path = f"/gateway/assets/{number}.js"
        headers = person.headers("GET", path, empty)
        headers["Authorization"] = (
            f"Bearer {sign(token('GET', path, None, bsh=empty, sub='user:browser'), TOKEN_SEED)}"
        )
        line = person.line()
        line.request("GET", path, None, headers)
        seen.append(line.getresponse().status)
        line.close()
    assert seen == [200] * 50
    assert RATE_BURST >= 60


def test_nobody_behind(ready: Stage) -> None:
    """A dead gateway is noticed by the next request, and reported."""
    ready.launcher.kill("exit-code")
    assert ready.get("/gateway/x").status in {502, 503}
    ready.until("failed")
    assert ready.told()["reason"] == "It ended with an error."


def test_the_waiting_page(stage: Stage) -> None:
    """Opening the gateway's page starts it; the browser comes again by itself, and that starts nothing."""
    stage.agree()
    first = stage.get("/gateway/", Accept="text/html")
    assert (first.status, first.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert b'url=/gateway/?again"' in first.body
    assert b"<script" not in first.body
    stage.until("ready")
    assert stage.get("/gateway/?again").status == 200
    stage.person.ask("POST", "/v1/gateway/stop")
    off = stage.get("/gateway/?again")
    assert (off.status, b"refresh" in off.body) == (503, False)
    assert stage.launcher.starts == 1


def test_the_waiting_page_says_why_not(stage: Stage) -> None:
    page = stage.get("/gateway/", Accept="text/html")
    assert b"an owner has to agree to agents first" in page.body
    assert stage.launcher.starts == 0


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[tuple[Stage, str]]:
    """A stage, and the cookie of a passkey."""
    with staged(tmp_path, laptop=LAPTOP.key) as stage:
        stage.start()
        yield stage, value(begin(stage.agent, stage.site)[2])


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({}, 403),
    ],
)
def test_a_browsers_request(browser: tuple[Stage, str], more: dict[str, str], status: int) -> None:
    """As everywhere: the cookie counts for pages of this origin only. The gateway never sees it."""
    stage, cookie = browser
    got, answer = call(stage.agent, stage.site, "GET", "/gateway/x", Cookie=f"__Host-guest={cookie}", **more)
    assert got == status
    if status == 200:
        assert cookie not in json.dumps(answer)


def test_a_port_that_is_not_the_gateways_is_never_asked(stage: Stage) -> None:
    """While it is off nothing is sent to its port, whoever listens there."""
    with socket.create_server(("127.0.0.1", stage.port)) as other:
        other.settimeout(0.5)
        stage.agree()
        assert stage.get("/gateway/x").status == 503
        with pytest.raises(TimeoutError):
            other.accept()
