"""The agent's gate: the table of routes, tokens, sessions, consents and suspension, on a real agent process."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from guest.agent.gate import ACCESS, MEMBERS_ONLY, RATE_BURST, Access, RateLimit
from guest.agent.ledger import Ledger
from guest.agent.members import Members
from guest.agent.sessions import Request, SessionRefused, Sessions, request_document
from protocol.keyrings import Member
from protocol.persons import Purpose
from protocol.tokens import TokenError, body_hash, sign
from tests.guest.conftest import Site
from tests.guest.fleet import RUNTIME_ID, TENANT_ID, TOKEN_SEED, Agent, personalise, running, token
from tests.protocol.people import MEMBER, ORIGIN, OWNER, RECOVERY, STRANGER, Passkey, entry, keyring

CONTENT = [route for route, access in ACCESS.items() if access in MEMBERS_ONLY]
CLOSED = [route for route, access in ACCESS.items() if access is not Access.OPEN]


def call(
    agent: Agent, site: Site, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return agent.call(site.control_plane.context(), method, path, body, headers=named)


def pin(agent: Agent, site: Site, *members: dict[str, Any]) -> Any:
    """Pin a first keyring, signed by the owner."""
    document = keyring(TENANT_ID, *members)
    body = {"document": document, "signature": OWNER.sign(Purpose.KEYRING, document)}
    status, answer = call(agent, site, "PUT", "/v1/keyring", body)
    assert status == 200, answer
    return answer


def sign_in(agent: Agent, site: Site, person: Any = OWNER) -> tuple[int, Any]:
    status, challenge = call(agent, site, "POST", "/v1/sessions/challenge")
    assert status == 200
    signature = {**person.sign(Purpose.SESSION, challenge), "nonce": challenge["nonce"]}
    return call(agent, site, "POST", "/v1/sessions", {"signature": signature})


def proof(session: str, method: str, path: str, counter: int, person: Any = OWNER) -> dict[str, str]:
    """The headers of a request under a device key's session."""
    document = request_document(session, Request(method, path, body_hash(b"")), counter)
    signature = person.sign(Purpose.REQUEST, document)["signature"]
    return {"Portal_Session": session, "Portal_Proof": f"{counter}.{signature}"}


@pytest.fixture
def session(agent: Agent, site: Site) -> str:
    """The owner's session, on a guest with one file in its workspace."""
    (site.folder / "workspace").mkdir()
    (site.folder / "workspace" / "secret-plan.txt").write_text("tell-tale")
    pin(agent, site)
    status, answer = sign_in(agent, site)
    assert status == 200, answer
    return str(answer["session"])


# The table


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_no_route_without_a_token(agent: Agent, site: Site, method: str, path: str) -> None:
    """Every route but health, walked from the table: certificate alone, or a token for another route: 401."""
    for authorization in (
        "",
        "Bearer",
        "Bearer x",
        "Basic eDp5",
        f"Bearer {sign(token('GET', '/elsewhere'), TOKEN_SEED)}",
    ):
        status, answer = call(agent, site, method, path, Authorization=authorization)
        assert status == 401, authorization
        assert answer["error"].startswith("token_")


@pytest.mark.parametrize(("method", "path"), CONTENT)
@pytest.mark.parametrize("pinned", [False, True])
def test_the_perfect_token_alone_opens_no_content(
    agent: Agent, site: Site, method: str, path: str, pinned: bool
) -> None:
    """Rule 12, walked from the table: whatever the portal signs, a content route wants a member."""
    (site.folder / "workspace").mkdir()
    (site.folder / "workspace" / "secret-plan.txt").touch()
    if pinned:
        pin(agent, site)
    for headers in ({}, {"Portal_Session": ""}, {"Portal_Session": "x" * 43, "Portal_Proof": "1.AAAA"}):
        status, answer = call(agent, site, method, path, **headers)
        assert (status, answer["error"]) == (403, "session_required")
        assert "secret-plan" not in json.dumps(answer)


def test_the_table_is_whole() -> None:
    """A handler without a row, or a row without a handler, keeps the agent from starting (see Routes)."""
    assert set(ACCESS.values()) == set(Access)
    assert [route for route, access in ACCESS.items() if access is Access.OPEN] == [("GET", "/v1/health")]


def test_no_route_beside_the_table(agent: Agent, site: Site) -> None:
    """A method that no row names is refused as such, also HEAD, which servers like to add."""
    for method in ("HEAD", "OPTIONS", "PATCH"):
        assert call(agent, site, method, "/v1/status")[0] == 405
        assert call(agent, site, method, "/v1/workspace/files?path=secret-plan.txt")[0] == 405


# Tokens


def test_a_token_is_good_once(agent: Agent, site: Site) -> None:
    """The same token again is refused, and so it is after the agent's restart."""
    text = f"Bearer {sign(token('GET', '/v1/status'), TOKEN_SEED)}"
    assert call(agent, site, "GET", "/v1/status", Authorization=text)[0] == 200
    status, answer = call(agent, site, "GET", "/v1/status", Authorization=text)
    assert (status, answer["error"]) == (401, "token_replayed")


def test_replay_after_a_restart(site: Site) -> None:
    """The ledger is on the disk; and a token older than the process is refused even without it."""
    with running(site.personalisation, site.data) as agent:
        # After its start, which may take longer than the leeway that older tokens have.
        text = f"Bearer {sign(token('GET', '/v1/status'), TOKEN_SEED)}"
        assert call(agent, site, "GET", "/v1/status", Authorization=text)[0] == 200
    with running(site.personalisation, site.data) as agent:
        assert call(agent, site, "GET", "/v1/status", Authorization=text)[1]["error"] in {
            "token_replayed",
            "token_expired",
        }


def test_replay_after_a_restored_disk(tmp_path: Path) -> None:
    """A ledger set back to before the token was spent does not make it good again."""
    began = int(time.time())
    spent = token("GET", "/", iat=began, nbf=began, exp=began + 60)
    restored = Ledger(tmp_path, started=began + 3)
    with pytest.raises(TokenError, match="token_expired"):
        restored.spend(spent, began + 4)


def test_a_clock_set_back(tmp_path: Path) -> None:
    """Behind what a believed token told, nothing is accepted; a pruned token is not good again."""
    ledger = Ledger(tmp_path, started=1000)
    first = token("GET", "/", iat=1000, nbf=1000, exp=1060)
    ledger.spend(first, 1000)
    ledger.spend(token("GET", "/", iat=2000, nbf=2000, exp=2060), 2000)
    with pytest.raises(TokenError, match="clock_wrong"):
        ledger.spend(first, 1010)
    assert not ledger.clock_is_right(1990)
    ledger.close()
    again = Ledger(tmp_path, started=1000)
    assert again.high == 2000
    with pytest.raises(TokenError, match="token_expired"):
        again.spend(first, 2000)


@pytest.mark.parametrize("seconds", [-86400, -300, -61, 300, 86400])
def test_a_clock_that_is_wrong(agent: Agent, site: Site, seconds: int) -> None:
    """Portal and guest minutes or a day apart: refused, in both directions."""
    now = int(time.time()) + seconds
    wrong = sign(token("GET", "/v1/status", iat=now, nbf=now, exp=now + 60), TOKEN_SEED)
    status, answer = call(agent, site, "GET", "/v1/status", Authorization=f"Bearer {wrong}")
    assert status == 401
    assert answer["error"] in {"token_expired", "token_not_yet_valid"}


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "6a1c3f1e-0d1b-4a55-9c1f-2f6f6f0f9a99"},
        {"tenant_id": "0b9a4d8e-4f53-4b0e-8f0c-8d1d5a0b7c99"},
        {"htm": "PUT"},
        {"htp": "/v1/status?x=1"},
        {"bsh": body_hash(b"x")},
        {"bsh": None},
    ],
)
def test_another_requests_token(agent: Agent, site: Site, changed: dict[str, Any]) -> None:
    """Of another tenant's guest, method, path or body; and an unknown body is no control route's."""
    text = sign(token("GET", "/v1/status", **changed), TOKEN_SEED)
    status, answer = call(agent, site, "GET", "/v1/status", Authorization=f"Bearer {text}")
    assert (status, answer["error"]) == (401, "token_wrong_request")


def test_query_counts(agent: Agent, site: Site) -> None:
    """The query is part of what was signed."""
    text = sign(token("GET", "/v1/status"), TOKEN_SEED)
    status, answer = call(agent, site, "GET", "/v1/status?more=1", Authorization=f"Bearer {text}")
    assert (status, answer["error"]) == (401, "token_wrong_request")


def test_rate_limit(agent: Agent, site: Site) -> None:
    """One actor's flood is turned away with 429; another actor is still served."""
    context = site.control_plane.context()
    codes = set()
    for _ in range(int(RATE_BURST) * 4):
        codes.add(agent.call(context, "GET", "/v1/status")[0])
        if 429 in codes:
            break
    limit = RateLimit()
    allowed = [limit.allows("a", 0.0) for _ in range(100)]
    assert (sum(allowed), limit.allows("b", 0.0), limit.allows("a", 1.0)) == (60, True, True)
    assert codes <= {200, 429}


# Members


def test_a_member_reads(agent: Agent, site: Site, session: str) -> None:
    """Token, session and proof together: the workspace is listed."""
    headers = proof(session, "GET", "/v1/workspace", 1)
    status, answer = call(agent, site, "GET", "/v1/workspace", **headers)
    assert status == 200
    (found,) = answer["entries"]
    assert (found["name"], found["kind"], found["size"]) == ("secret-plan.txt", "file", 9)
    assert answer["complete"] is True


def test_a_seen_session_is_worthless(agent: Agent, site: Site, session: str) -> None:
    """Who reads session and proof off the wire, the control plane included, can do nothing with them."""
    seen = proof(session, "GET", "/v1/workspace", 5)
    assert call(agent, site, "GET", "/v1/workspace", **seen)[0] == 200
    attempts = [
        seen,
        {"Portal_Session": session},
        proof(session, "GET", "/v1/workspace", 4),
        proof(session, "DELETE", "/v1/session", 6),
        proof(session, "GET", "/v1/workspace", 6, STRANGER),
        {**seen, "Portal_Proof": seen["Portal_Proof"].replace("5.", "6.")},
        {**seen, "Portal_Proof": "x" * 4000},
    ]
    for headers in attempts:
        status, answer = call(agent, site, "GET", "/v1/workspace", **headers)
        assert (status, answer["error"]) == (403, "proof_invalid"), headers
    assert call(agent, site, "GET", "/v1/workspace", **proof(session, "GET", "/v1/workspace", 7))[0] == 200


def test_who_may_sign_in(agent: Agent, site: Site) -> None:
    """Only a key of the pinned keyring, over this guest's nonce, once, for this purpose."""
    assert sign_in(agent, site)[1]["error"] == "no_keyring"
    pin(agent, site, entry(OWNER.key), entry(MEMBER.key, "member"))
    assert sign_in(agent, site, MEMBER)[0] == 200
    for stranger in (STRANGER, RECOVERY):
        assert sign_in(agent, site, stranger)[1]["error"] == "not_a_member"
    _, challenge = call(agent, site, "POST", "/v1/sessions/challenge")
    signature = {**OWNER.sign(Purpose.SESSION, challenge), "nonce": challenge["nonce"]}
    wrong = {**OWNER.sign(Purpose.CONSENT, challenge), "nonce": challenge["nonce"]}
    assert call(agent, site, "POST", "/v1/sessions", {"signature": wrong})[1]["error"] == "bad_signature"
    # A nonce is spent by the attempt, so the good signature comes too late, and never works twice.
    assert call(agent, site, "POST", "/v1/sessions", {"signature": signature})[1]["error"] == "nonce_unknown"
    other = {"nonce": "ab" * 32, "runtime_id": RUNTIME_ID}
    made_up = {**OWNER.sign(Purpose.SESSION, other), "nonce": other["nonce"]}
    assert call(agent, site, "POST", "/v1/sessions", {"signature": made_up})[1]["error"] == "nonce_unknown"


def test_a_passkey_signs_in(agent: Agent, site: Site) -> None:
    """An assertion for this runtime's origin is taken; one from another origin is not."""
    passkey = Passkey()
    pin(agent, site, entry(OWNER.key), entry(passkey.key))
    assert sign_in(agent, site, passkey)[0] == 200
    assert call(agent, site, "GET", "/v1/status")[1]["keyring"]["version"] == 1
    _, challenge = call(agent, site, "POST", "/v1/sessions/challenge")
    evil = passkey.sign(Purpose.SESSION, challenge, origin=ORIGIN.replace("acme", "evil"))
    body = {"signature": {**evil, "nonce": challenge["nonce"]}}
    assert call(agent, site, "POST", "/v1/sessions", body)[1]["error"] == "bad_signature"


def test_a_removed_member_is_out_at_once(agent: Agent, site: Site) -> None:
    """A session ends with the key's place in the keyring."""
    one = pin(agent, site, entry(OWNER.key), entry(MEMBER.key, "member"))
    name = sign_in(agent, site, MEMBER)[1]["session"]
    document = {**keyring(TENANT_ID), "version": 2, "previous": one["hash"]}
    body = {"document": document, "signature": OWNER.sign(Purpose.KEYRING, document)}
    assert call(agent, site, "PUT", "/v1/keyring", body)[0] == 200
    headers = proof(name, "GET", "/v1/workspace", 1, MEMBER)
    assert call(agent, site, "GET", "/v1/workspace", **headers)[1]["error"] == "session_required"


def test_the_keyring_outlives_a_restart(site: Site) -> None:
    """The pin is on the disk: after a restart another first keyring is refused."""
    with running(site.personalisation, site.data) as agent:
        pinned = pin(agent, site)
    with running(site.personalisation, site.data) as agent:
        said = call(agent, site, "GET", "/v1/status")[1]["keyring"]
        assert (said["hash"], said["fingerprints"]) == (pinned["hash"], [OWNER.key.fingerprint])
        document = keyring(TENANT_ID, entry(STRANGER.key))
        body = {"document": document, "signature": STRANGER.sign(Purpose.KEYRING, document)}
        assert call(agent, site, "PUT", "/v1/keyring", body)[1]["error"] == "forked"


def test_consents(agent: Agent, site: Site) -> None:
    """An owner's only, forwards only: a consent shown again after its withdrawal is refused (rule 8)."""
    pin(agent, site, entry(OWNER.key), entry(MEMBER.key, "member"))

    def consent(version: int, agents: bool, always_on: bool = False, by: Any = OWNER) -> tuple[int, Any]:
        document = {
            "version": version,
            "tenant_id": TENANT_ID,
            "agents": agents,
            "always_on": always_on,
        }
        body = {"document": document, "signature": by.sign(Purpose.CONSENT, document)}
        return call(agent, site, "PUT", "/v1/consents", body)

    assert consent(1, True, by=MEMBER)[1]["error"] == "not_an_owner"
    assert consent(1, False, True)[1]["error"] == "malformed"
    assert consent(1, True)[0] == 200
    assert call(agent, site, "GET", "/v1/status")[1]["consents"]["agents"] is True
    assert consent(2, False)[0] == 200
    assert consent(1, True)[1]["error"] == "rolled_back"
    assert call(agent, site, "GET", "/v1/status")[1]["consents"] == {
        "version": 2,
        "agents": False,
        "always_on": False,
    }


def test_suspension(site: Site) -> None:
    """The portal may always close: sessions end at once, sign-in stops, and a restart does not reopen."""
    with running(site.personalisation, site.data) as agent:
        (site.folder / "workspace").mkdir()
        pin(agent, site)
        name = sign_in(agent, site)[1]["session"]
        assert call(agent, site, "PUT", "/v1/suspended", {"suspended": True})[1]["ended"] == 1
        headers = proof(name, "GET", "/v1/workspace", 1)
        assert call(agent, site, "GET", "/v1/workspace", **headers)[1]["error"] == "suspended"
        assert call(agent, site, "POST", "/v1/sessions/challenge")[1]["error"] == "suspended"
    with running(site.personalisation, site.data) as agent:
        assert call(agent, site, "GET", "/v1/status")[1]["suspended"] is True
        assert call(agent, site, "PUT", "/v1/suspended", {"suspended": False})[0] == 200
        headers = proof(name, "GET", "/v1/workspace", 2)
        assert call(agent, site, "GET", "/v1/workspace", **headers)[1]["error"] == "session_required"
        assert sign_in(agent, site)[0] == 200


def test_the_portal_ends_sessions(agent: Agent, site: Site, session: str) -> None:
    """All of them, at once."""
    assert call(agent, site, "DELETE", "/v1/sessions")[1] == {"ended": 1}
    headers = proof(session, "GET", "/v1/workspace", 1)
    assert call(agent, site, "GET", "/v1/workspace", **headers)[1]["error"] == "session_required"


def test_a_member_signs_out(agent: Agent, site: Site, session: str) -> None:
    """The session is gone."""
    headers = proof(session, "DELETE", "/v1/session", 1)
    assert call(agent, site, "DELETE", "/v1/session", **headers)[0] == 204
    again = proof(session, "GET", "/v1/workspace", 2)
    assert call(agent, site, "GET", "/v1/workspace", **again)[1]["error"] == "session_required"


@pytest.mark.parametrize("name", ["keyring.json", "consents.json"])
def test_a_damaged_record_stops_the_agent(site: Site, name: str) -> None:
    """Rather than take a first keyring again."""
    site.data.mkdir()
    (site.data / name).write_bytes(b"damaged")
    command = [sys.executable, "-m", "guest.agent", "--listen", "127.0.0.1:0"]
    command += ["--personalisation", str(site.personalisation), "--data", str(site.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_session_ends_by_itself() -> None:
    """After half an hour of silence, and after eight hours in any case."""

    class Known(Members):
        def __init__(self) -> None:
            self.keyring = None

        def member(self, fingerprint: str) -> Any:
            assert fingerprint == OWNER.key.fingerprint
            return Member(OWNER.key, "owner")

    def begin(sessions: Sessions) -> str:
        challenge = sessions.challenge(0.0)
        return sessions.begin(challenge["nonce"], OWNER.sign(Purpose.SESSION, challenge), 1.0).name

    def check(sessions: Sessions, name: str, counter: int, now: float) -> None:
        request = Request("GET", "/", body_hash(b""))
        made = OWNER.sign(Purpose.REQUEST, request_document(name, request, counter))["signature"]
        sessions.check(name, f"{counter}.{made}", request, now)

    sessions = Sessions(Known(), RUNTIME_ID, None)
    idle = begin(sessions)
    with pytest.raises(SessionRefused, match="session_required"):
        check(sessions, idle, 1, 1802.0)
    busy = begin(sessions)
    for counter in range(1, 17):
        check(sessions, busy, counter, counter * 1790.0)
    with pytest.raises(SessionRefused, match="session_required"):
        check(sessions, busy, 17, 8 * 3600 + 2.0)
    late = sessions.challenge(0.0)
    with pytest.raises(SessionRefused, match="nonce_unknown"):
        sessions.begin(late["nonce"], OWNER.sign(Purpose.SESSION, late), 121.0)


@pytest.mark.parametrize("proxy", [None, "127.0.0.1:3128"])
def test_a_member_is_told_the_way_out(site: Site, proxy: str | None) -> None:
    with running(personalise(site.folder, site.authority, proxy=proxy), site.data) as agent:
        pin(agent, site)
        session = str(sign_in(agent, site)[1]["session"])
        assert call(agent, site, "GET", "/v1/outside")[1]["error"] == "session_required"
        shown = proof(session, "GET", "/v1/outside", 1)
        assert call(agent, site, "GET", "/v1/outside", **shown) == (200, {"proxy": proxy})
