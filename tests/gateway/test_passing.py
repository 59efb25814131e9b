"""What passes to the gateway and back, as lists: whatever comes, nothing else does."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from guest.agent.gateway.errors import GatewayRefused
from guest.agent.gateway.passing import (
    ANSWERED,
    ASKED,
    FORWARDED_FOR,
    SCOPES,
    answered,
    asked,
    fence,
    upstream,
)
from guest.gateway.config import Headers

ORIGIN = "https://acme.portal.example"
NAMES = Headers.fresh()
PIECES = ["gateway", "gateway-api", "v1", "..", ".", "", "%2e%2e", "%2E.", "%2f", "%5c", "\\", "%00", "%252e", "a b",
          "é", "healthz", "readyz", "http:", "x;y", "x@y", "%", "%g1", "?", "#", "a.b", "~"]  # fmt: skip


def mapped(raw: str) -> str | None:
    try:
        return upstream(raw)
    except GatewayRefused:
        return None


@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=7).map(
        lambda parts: "/" + "/".join(parts)
    )
)
@example("/gateway/../v1/models")
@example("/gateway/%2e%2e/readyz")
@example("/gateway-api/v1/%2e%2e/%2e%2e/readyz")
@example("//evil.example/gateway/")
@example("/gateway//evil.example/")
@example("/gateway/x%0d%0aX-Forwarded-For:%20127.0.0.1")
@example("http://127.0.0.1:18789/gateway/")
def test_no_path_leaves_its_place(raw: str) -> None:
    """However often somebody on the way decodes it, it stays below the one prefix."""
    found = mapped(raw)
    if found is None:
        return
    assert re.fullmatch(r"/(gateway(/.*)?|v1/.*)", found.partition("?")[0])
    for _ in range(3):
        path = found.partition("?")[0]
        assert not {".", ".."} & set(path.split("/"))
        assert "//" not in path
        assert "\\" not in path
        assert path.isprintable()
        assert found.startswith(("/gateway", "/v1/"))
        found = unquote(found)


@pytest.mark.parametrize(
    ("raw", "there"),
    [
        ("/gateway", "/gateway"),
        ("/gateway/", "/gateway/"),
        ("/gateway/assets/index-PhhjdT1T.js", "/gateway/assets/index-PhhjdT1T.js"),
        ("/gateway/avatar/main?meta=1&x=%2Fy", "/gateway/avatar/main?meta=1&x=%2Fy"),
        ("/gateway-api/v1/models", "/v1/models"),
        ("/gateway-api/v1/chat/completions", "/v1/chat/completions"),
    ],
)
def test_what_is_meant_gets_through(raw: str, there: str) -> None:
    assert upstream(raw) == there


@pytest.mark.parametrize("raw", ["/", "/gatewayx", "/gateway-api/", "/gateway-api/readyz", "/v1/models", "/gateway/" + "x" * 3000,
                                 "/gateway?a=b c", "/gateway?a=\n"])  # fmt: skip
def test_what_is_elsewhere_does_not(raw: str) -> None:
    assert mapped(raw) is None


HOSTILE_NAMES = st.sampled_from(
    ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "X-Real-IP", "x-openclaw-scopes", "X-OpenClaw-Agent-Id",
     "Authorization", "Cookie", "Connection", "Upgrade", "Transfer-Encoding", "TE", "Host", "Origin", "Proxy",
     "Portal-Session", "Portal-Proof", NAMES.user, NAMES.request, NAMES.user.upper(), "Content-Length"]
)  # fmt: skip


@given(
    st.lists(st.tuples(HOSTILE_NAMES | st.sampled_from(ASKED), st.text(max_size=9))),
    st.sampled_from(sorted(SCOPES)),
)
def test_what_a_caller_says_of_himself_stays_behind(given_: list[tuple[str, str]], role: str) -> None:
    """The list of what passes, and four headers of the agent's own, each once."""
    passed = asked(CIMultiDict(given_), NAMES, "tenant", role)
    own = {"x-forwarded-for": FORWARDED_FOR, "x-openclaw-scopes": SCOPES[role],
           NAMES.user: "tenant", NAMES.request: "1"}  # fmt: skip
    assert {name.lower() for name in passed} <= own.keys() | {name.lower() for name in ASKED}
    for name, value in own.items():
        assert passed.getall(name) == [value]


def test_scopes() -> None:
    """Never all, never none; an owner also decides what an agent asks leave for."""
    assert "admin" not in "".join(SCOPES.values())
    assert set(SCOPES) == {"owner", "member"}
    assert all({"operator.read", "operator.write"} <= set(each.split(",")) for each in SCOPES.values())


ANSWERS = st.sampled_from(
    ["Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Access-Control-Allow-Origin", "Link", "Refresh",
     "X-Accel-Redirect", "X-Accel-Buffering", "Location", "WWW-Authenticate", "Cache-Control", "NEL", "Report-To",
     "Cross-Origin-Opener-Policy", "Permissions-Policy", "SourceMap", "Speculation-Rules", "Content-Encoding",
     "Content-Security-Policy", "Content-Security-Policy-Report-Only", "Upgrade", "Trailer", "Alt-Svc"]
)  # fmt: skip


@given(st.lists(st.tuples(ANSWERS, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))))
def test_what_comes_back(given_: list[tuple[str, str]]) -> None:
    """Our own words on the origin stay as they are, first; the gateway's may at most narrow its page."""
    own = fence(ORIGIN)
    passed = answered(CIMultiDictProxy(CIMultiDict(given_)), own)
    allowed = {name.lower() for name in (*ANSWERED, *own, "Location", "Content-Encoding")}
    assert {name.lower() for name in passed} <= allowed
    for name, value in own.items():
        assert passed.getall(name)[0] == value
        assert len(passed.getall(name)) == 1 or name == "Content-Security-Policy"
    assert len(passed.getall("Content-Security-Policy")) <= 2


@pytest.mark.parametrize(
    ("where", "kept"),
    [("/gateway/x", True), ("/v1/session", False), ("//evil.example/", False), ("https://evil.example/", False),
     ("/gateway/../v1/session", False), ("/gateway/%2e%2e/", False), ("/gateway/\\..\\", False), ("", False)],
)  # fmt: skip
def test_where_it_may_send_a_browser(where: str, kept: bool) -> None:
    """The fence does not look at paths after a redirect, so the agent does."""
    passed = answered(CIMultiDictProxy(CIMultiDict({"Location": where})), {})
    assert ("Location" in passed) == kept


@pytest.mark.parametrize(
    "policy",
    [
        "default-src *, default-src 'none'",
        "default-src 'self'; report-uri https://evil/",
        "x" * 5000,
        "a\x01b",
    ],
)
def test_policies_that_do_more_than_narrow(policy: str) -> None:
    passed = answered(CIMultiDictProxy(CIMultiDict({"Content-Security-Policy": policy})), fence(ORIGIN))
    assert len(passed.getall("Content-Security-Policy")) == 1


def test_the_fence() -> None:
    """A script of the gateway's page reaches ``/gateway`` only, starts no worker, holds no other window."""
    policy = dict(each.split(" ", 1) for each in fence(ORIGIN)["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert (
        policy["connect-src"]
        == f"{ORIGIN}/gateway/ wss://acme.portal.example/gateway wss://acme.portal.example/gateway/"
    )
    assert policy["script-src"].startswith(f"{ORIGIN}/gateway/")
    for name in ("worker-src", "frame-src", "object-src", "form-action", "frame-ancestors", "base-uri"):
        assert policy[name] == "'none'"
    assert "'self'" not in " ".join(policy.values()), "that would be the agent's own routes too"
    assert fence(ORIGIN)["Cross-Origin-Opener-Policy"] == "same-origin"
    assert fence(ORIGIN)["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert fence(ORIGIN)["Cache-Control"] == "no-store"
    assert "publickey-credentials-get=()" in fence(ORIGIN)["Permissions-Policy"]
