"""A passkey's session is a cookie of this guest's origin: who gets it, who may use it, and how it ends."""

import http.client
import json
from typing import Any

import pytest

from protocol.persons import Purpose
from protocol.tokens import sign
from tests.guest.conftest import Site
from tests.guest.fleet import TENANT_ID, TOKEN_SEED, Agent, token
from tests.guest.test_gate import call, pin, proof
from tests.guest.test_gate import sign_in as device_sign_in
from tests.protocol.people import MEMBER, ORIGIN, OWNER, Passkey, entry, keyring

LAPTOP, PHONE, STRANGER = Passkey(), Passkey(), Passkey()
PORTAL = "http://portal.localhost:8000"
SAME = {"Sec_Fetch_Site": "same-origin"}


def begin(agent: Agent, site: Site, key: Passkey = LAPTOP, **client: Any) -> tuple[int, Any, str]:
    """Sign in as a browser does: naming no key. Status, answer, and the whole Set-Cookie."""
    _, challenge = call(agent, site, "POST", "/v1/sessions/challenge")
    signature = {**key.sign(Purpose.SESSION, challenge, **client), "nonce": challenge["nonce"]}
    del signature["by"]
    body = json.dumps({"signature": signature}).encode()
    line = http.client.HTTPSConnection(
        "127.0.0.1", agent.port, context=site.control_plane.context(), timeout=5
    )
    bearer = sign(token("POST", "/v1/sessions", body), TOKEN_SEED)
    line.request("POST", "/v1/sessions", body, {"Authorization": f"Bearer {bearer}"})
    answer = line.getresponse()
    said = json.loads(answer.read())
    line.close()
    return answer.status, said, answer.getheader("Set-Cookie") or ""


def value(cookie: str) -> str:
    return cookie.partition(";")[0].partition("=")[2]


@pytest.fixture
def cookie(agent: Agent, site: Site) -> str:
    """Of an owner's laptop, on a guest that knows two passkeys and two device keys."""
    (site.folder / "workspace").mkdir()
    pin(
        agent,
        site,
        entry(OWNER.key),
        entry(MEMBER.key, "member"),
        entry(LAPTOP.key),
        entry(PHONE.key, "member"),
    )
    status, said, cookie = begin(agent, site)
    assert (status, said) == (200, {"seconds": 8 * 3600}), "the name is for the cookie alone"
    return value(cookie)


def ask(
    agent: Agent, site: Site, cookie: str, method: str = "GET", path: str = "/v1/workspace", **more: str
) -> Any:
    return call(agent, site, method, path, Cookie=f"__Host-guest={cookie}", **more)


def test_what_kind_of_cookie(agent: Agent, site: Site, cookie: str) -> None:
    """No script reads it, no other host gets it, no plain connection carries it."""
    _, _, whole = begin(agent, site, PHONE)
    parts = {part.strip() for part in whole.split(";")[1:]}
    assert parts == {"HttpOnly", "Path=/", "SameSite=Strict", "Secure"}
    assert len(value(whole)) >= 43


def test_the_key_is_found_by_its_signature(agent: Agent, site: Site, cookie: str) -> None:
    """A browser does not know its passkey's public key; one that is no member's is refused all the same."""
    shown = ask(agent, site, cookie, path="/v1/session", **SAME)[1]
    assert (shown["fingerprint"], shown["role"]) == (LAPTOP.key.fingerprint, "owner")
    status, answer, given = begin(agent, site, STRANGER)
    assert (status, answer["error"], given) == (403, "bad_signature", "")


@pytest.mark.parametrize(
    ("changed", "allowed"),
    [
        ({"Sec_Fetch_Site": "same-origin"}, True),
        ({"Sec_Fetch_Site": "none"}, True),
        ({"Sec_Fetch_Site": "same-site"}, False),
        ({"Sec_Fetch_Site": "cross-site"}, False),
        ({}, False),
    ],
)
def test_who_reads_with_it(agent: Agent, site: Site, cookie: str, changed: Any, allowed: bool) -> None:
    """Another tenant's page is the same site, so SameSite does not hold it off."""
    status, answer = ask(agent, site, cookie, **changed)
    assert (status, answer.get("error")) == ((200, None) if allowed else (403, "cross_origin"))


@pytest.mark.parametrize(
    ("changed", "allowed"),
    [
        ({**SAME, "Origin": ORIGIN}, True),
        ({**SAME, "Origin": ORIGIN.replace("acme", "zebra")}, False),
        ({**SAME, "Origin": PORTAL}, False),
        ({**SAME, "Origin": "null"}, False),
        (SAME, False),
        ({"Sec_Fetch_Site": "none", "Origin": ORIGIN}, False),
        ({"Origin": ORIGIN}, False),
    ],
)
def test_who_acts_with_it(agent: Agent, site: Site, cookie: str, changed: Any, allowed: bool) -> None:
    status, answer = ask(agent, site, cookie, "POST", "/v1/sessions/end", **changed)
    assert (status, answer.get("error")) == ((200, None) if allowed else (403, "cross_origin"))


def test_two_names_are_none(agent: Agent, site: Site, cookie: str) -> None:
    """Two cookies, or a cookie and a header: nothing is guessed."""
    twice = f"{cookie}; __Host-guest={cookie}"
    assert ask(agent, site, twice, **SAME)[1]["error"] == "session_required"
    both = ask(agent, site, cookie, **SAME, **proof("x" * 43, "GET", "/v1/workspace", 1))
    assert both[1]["error"] == "session_required"


def test_one_kind_is_not_the_other(agent: Agent, site: Site, cookie: str) -> None:
    """A passkey's session in the header, without any proof; a device key's in the cookie, without its key."""
    assert call(agent, site, "GET", "/v1/workspace", Portal_Session=cookie)[1]["error"] == "session_required"
    device = device_sign_in(agent, site)[1]["session"]
    assert ask(agent, site, device, **SAME)[1]["error"] == "session_required"


def test_a_session_begins_on_the_guests_own_origin(agent: Agent, site: Site, cookie: str) -> None:
    """The portal's page, or a sibling's, cannot have one begun; the portal's may sign keyrings and consents."""
    for origin in (PORTAL, ORIGIN.replace("acme", "zebra")):
        assert begin(agent, site, LAPTOP, origin=origin)[1]["error"] == "bad_signature"
    pinned = call(agent, site, "GET", "/v1/status")[1]["keyring"]["hash"]
    document = keyring(TENANT_ID, entry(OWNER.key), entry(LAPTOP.key), version=2, previous=pinned)
    body = {"document": document, "signature": LAPTOP.sign(Purpose.KEYRING, document, origin=PORTAL)}
    assert call(agent, site, "PUT", "/v1/keyring", body)[0] == 200
    consent = {"version": 1, "tenant_id": TENANT_ID, "agents": True, "always_on": False}
    body = {"document": consent, "signature": LAPTOP.sign(Purpose.CONSENT, consent, origin=PORTAL)}
    assert call(agent, site, "PUT", "/v1/consents", body)[0] == 200


def test_only_owners_end_others(agent: Agent, site: Site, cookie: str) -> None:
    """And keep their own."""
    own = {**SAME, "Origin": ORIGIN}
    phone = value(begin(agent, site, PHONE)[2])
    status, answer = ask(agent, site, phone, "POST", "/v1/sessions/end", **own)
    assert (status, answer["error"]) == (403, "not_an_owner")
    assert len(ask(agent, site, cookie, path="/v1/sessions", **SAME)[1]["sessions"]) == 2
    assert ask(agent, site, cookie, "POST", "/v1/sessions/end", **own) == (200, {"ended": 1})
    assert ask(agent, site, phone, **SAME)[1]["error"] == "session_required"
    (left,) = ask(agent, site, cookie, path="/v1/sessions", **SAME)[1]["sessions"]
    assert left["own"] is True


def test_signing_out(agent: Agent, site: Site, cookie: str) -> None:
    own = {**SAME, "Origin": ORIGIN}
    assert call(agent, site, "GET", "/v1/door", Cookie=f"__Host-guest={cookie}", **SAME)[1] == {
        "signed_in": True
    }
    assert ask(agent, site, cookie, "DELETE", "/v1/session", **own)[0] == 204
    assert ask(agent, site, cookie, **SAME)[1]["error"] == "session_required"
    assert call(agent, site, "GET", "/v1/door", Cookie=f"__Host-guest={cookie}", **SAME)[1] == {
        "signed_in": False
    }


def test_a_member_who_is_taken_out(agent: Agent, site: Site, cookie: str) -> None:
    """The session ends with the key's place in the keyring."""
    pinned = call(agent, site, "GET", "/v1/status")[1]["keyring"]["hash"]
    document = keyring(TENANT_ID, entry(OWNER.key), version=2, previous=pinned)
    body = {"document": document, "signature": OWNER.sign(Purpose.KEYRING, document)}
    assert call(agent, site, "PUT", "/v1/keyring", body)[0] == 200
    assert ask(agent, site, cookie, **SAME)[1]["error"] == "session_required"
