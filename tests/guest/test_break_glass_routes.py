"""Break-glass on a real agent process: which token reaches what, and how an access lives, ends and is told."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from guest.agent.callers import Caller
from guest.agent.gate import ACCESS, MAY_CALL, UNDER_TICKETS, Access
from protocol.access_receipts import START, check_chain, head_key, open_head
from protocol.enrolment import PROXY_URI
from protocol.keyrings import Keyring
from protocol.persons import Purpose
from protocol.tickets import Ticket
from protocol.tokens import sign
from tests.guest.conftest import Site
from tests.guest.files import Person
from tests.guest.fleet import ROUTE_SEED, RUNTIME_ID, TENANT_ID, TOKEN_SEED, Agent, caller, running, token
from tests.guest.glass import token_of
from tests.guest.operators import Operator, let_in, name_approvers
from tests.guest.test_gate import call, pin, sign_in
from tests.protocol.people import OWNER, STRANGER, entry, keyring
from tests.protocol.test_approvers import ANN, BEN, approver, the_set
from tests.protocol.ticketing import RAE, a_grant, a_set, a_ticket

LIST = "/v1/break-glass/list?path=logs"
READ = "/v1/break-glass/files?path=logs/large"
LARGE = 64 << 20
"""More than the sockets between agent and reader hold."""
GLASS = [route for route, access in ACCESS.items() if access in UNDER_TICKETS]


@pytest.fixture
def site(site: Site) -> Site:
    """With something to read."""
    (site.folder / "workspace" / "logs").mkdir(parents=True)
    (site.folder / "workspace" / "logs" / "today.txt").write_text("a line\n")
    return site


@pytest.fixture
def guest(agent: Agent, site: Site) -> Agent:
    """An owner's, who has named approvers."""
    pin(agent, site)
    name_approvers(agent, site)
    return agent


def stated(agent: Agent, site: Site) -> Any:
    return call(agent, site, "GET", "/v1/status")[1]


def receipts(agent: Agent, site: Site) -> list[dict[str, Any]]:
    """All, as the portal fetches them: they follow each other up to the signed head."""
    answer = call(agent, site, "GET", "/v1/receipts?after=0")[1]
    position = check_chain(answer["receipts"], START, runtime_id=RUNTIME_ID)
    said = stated(agent, site)
    assert open_head(answer["head"], head_key(RUNTIME_ID, said["witness"]["vkey"])) == position
    assert said["receipts"] == {"seq": position[0], "hash": position[1]}
    return list(answer["receipts"])


def events(agent: Agent, site: Site) -> list[str]:
    return [each["event"] for each in receipts(agent, site)]


# Tokens


def test_each_token_for_its_own_routes(guest: Agent, site: Site) -> None:
    """Walked from the table: no token of one kind reaches a route of the other, whatever key signed it."""
    operator = let_in(guest, site)
    for (method, path), access in ACCESS.items():
        if access is Access.OPEN:
            continue
        for seed in (TOKEN_SEED, ROUTE_SEED):
            wrong = (
                sign(token(method, path), seed)
                if access in UNDER_TICKETS
                else sign(token_of(operator.ticket, method, path), seed)
            )
            assert operator.ask(method, path, bearer=wrong) == (
                401,
                {"error": "token_invalid", "message": "a valid token for exactly this request is needed"},
            ), (method, path)


@pytest.mark.parametrize("route", GLASS, ids=" ".join)
def test_no_break_glass_without_a_grant(agent: Agent, site: Site, route: tuple[str, str]) -> None:
    """Walked from the table: on a guest without approvers the perfect token opens nothing."""
    pin(agent, site)
    operator = Operator(agent, site.control_plane, Ticket.parse(a_ticket()))
    status, answer = operator.ask(*route, {"path": "logs"} if "folders" in route[1] else None)
    wanted = {"no_grant"} if "exec" not in route[1] and "logs/read" not in route[1] else {"bad_request"}
    assert (status in {400, 403}, {answer["error"]}) == (True, wanted)


def test_a_token_is_good_once(guest: Agent, site: Site) -> None:
    """The proxy's log is no way in."""
    operator = let_in(guest, site)
    operator.sign_in()
    used = sign(token_of(operator.ticket, "GET", LIST), ROUTE_SEED)
    assert operator.code("GET", LIST, bearer=used) == "ok"
    assert operator.code("GET", LIST, bearer=used) == "token_replayed"
    late = token_of(operator.ticket, "GET", LIST, iat=1, nbf=1, exp=61)
    assert operator.code("GET", LIST, bearer=sign(late, ROUTE_SEED)) == "token_expired"
    other = sign(token_of(operator.ticket, "GET", LIST), ROUTE_SEED)
    assert operator.code("GET", "/v1/break-glass/list?path=", bearer=other) == "token_wrong_request"


def test_the_proxy_and_the_control_plane(guest: Agent, site: Site) -> None:
    """The proxy carries operators' requests, and reaches none of the control routes of break-glass."""
    operator = let_in(guest, site)
    operator.caller = caller(site.folder, "proxy", site.authority, uri=PROXY_URI)
    assert operator.sign_in()[0] == 200
    assert operator.code("GET", LIST) == "ok"
    assert MAY_CALL[Caller.PROXY] >= UNDER_TICKETS
    for method, path in (
        ("PUT", "/v1/grants"),
        ("POST", "/v1/grants/end"),
        ("PUT", "/v1/terms"),
        ("GET", "/v1/receipts"),
    ):
        assert ACCESS[method, path] is Access.CONTROL
        status, answer = guest.call(operator.caller.context(), method, path)
        assert (status, answer["error"]) == (403, "not_for_this_caller")


def test_a_members_session_is_no_operators(guest: Agent, site: Site) -> None:
    """Nor the other way round."""
    operator = let_in(guest, site)
    name = str(sign_in(guest, site)[1]["session"])
    operator.cookies = [f"__Host-guest={name}", f"__Host-bg={name}"]
    assert operator.code("GET", LIST) == "session_required"
    operator.sign_in()
    cookie = operator.cookies[0].partition("=")[2]
    status, answer = call(guest, site, "GET", "/v1/workspace", Cookie=f"__Host-guest={cookie}")
    assert (status, answer["error"]) == (403, "cross_origin")
    headers = {"Cookie": f"__Host-guest={cookie}", "Sec-Fetch-Site": "same-origin"}
    status, answer = guest.call(site.control_plane.context(), "GET", "/v1/workspace", headers=headers)
    assert (status, answer["error"]) == (403, "session_required")


# A life


def test_from_grant_to_receipts(guest: Agent, site: Site) -> None:
    """Delivered twice, signed in, read, done; all of it told to the portal, and nothing of what was read."""
    grant = a_grant()
    body = {"grant": grant}
    first, again = (call(guest, site, "PUT", "/v1/grants", body) for _ in range(2))
    assert first == again == (200, {"ticket": grant["document"]["ticket"], "until": first[1]["until"]})
    assert abs(first[1]["until"] - time.time() - 1800) < 10
    operator = Operator(guest, site.control_plane, Ticket.parse(grant["document"]))
    assert stated(guest, site)["grants"] == [operator.ticket.ticket]
    assert operator.code("GET", LIST) == "session_required"
    assert operator.sign_in(ANN) == (
        403,
        {"error": "bad_signature", "message": "the requester's passkey: the signature does not fit"},
    )
    assert operator.sign_in()[0] == 200
    status, listed = operator.ask("GET", LIST)
    assert (status, [each["name"] for each in listed["entries"]]) == (200, ["today.txt"])
    assert operator.ask("GET", "/v1/break-glass/files?path=logs/today.txt") == (200, b"a line\n")
    assert operator.code("GET", "/v1/break-glass/list?path=notes") == "wrong_path"
    assert operator.code("PUT", READ) == "wrong_scope"
    assert operator.code("POST", "/v1/break-glass/end") == "ok"
    assert operator.code("GET", LIST) == "ended"
    found = receipts(guest, site)
    assert [each["event"] for each in found] == [
        "granted",
        "refused",
        "refused",
        "session",
        *("access", "outcome") * 2,
        "refused",
        "refused",
        "ended",
        "refused",
    ]
    codes = [each["detail"]["code"] for each in found if each["event"] in {"refused", "ended"}]
    assert codes == ["session_required", "bad_signature", "wrong_path", "wrong_scope", "done", "ended"]
    assert "a line" not in str(found)
    assert stated(guest, site)["grants"] == []
    assert call(guest, site, "PUT", "/v1/grants", body)[1]["error"] == "ended"


def test_an_agent_that_starts_again(site: Site) -> None:
    """The grant is there, its end too; the session is not."""
    with running(site.personalisation, site.data) as agent:
        pin(agent, site)
        name_approvers(agent, site)
        kept, ended = let_in(agent, site), let_in(agent, site)
        kept.sign_in()
        told = {"ticket": ended.ticket.ticket}
        assert call(agent, site, "POST", "/v1/grants/end", told) == (200, {"ended": True, "streams": 0})
        assert call(agent, site, "POST", "/v1/grants/end", told) == (200, {"ended": False, "streams": 0})
    with running(site.personalisation, site.data) as agent:
        kept.agent = ended.agent = agent
        assert stated(agent, site)["grants"] == [kept.ticket.ticket]
        assert kept.code("GET", LIST) == "session_required"
        assert ended.code("POST", "/v1/break-glass/challenge") == "ended"
        assert kept.sign_in()[0] == 200
        assert kept.code("GET", LIST) == "ok"


# Ends, while a file is on its way


def stop_by_route(agent: Agent, site: Site, operator: Operator) -> None:
    status, answer = call(agent, site, "POST", "/v1/grants/end", {"ticket": operator.ticket.ticket})
    assert (status, answer) == (200, {"ended": True, "streams": 1})


def stop_by_owner(agent: Agent, site: Site, operator: Operator) -> None:
    owner = Person(agent, site, str(sign_in(agent, site)[1]["session"]))
    body = json.dumps({"ticket": operator.ticket.ticket}).encode()
    answer = owner.ask("POST", "/v1/grants/stop", body)
    assert answer.document == {"ended": True, "streams": 1}


def stop_by_set(agent: Agent, site: Site, _operator: Operator) -> None:
    previous = stated(agent, site)["approvers"]["hash"]
    new = the_set(approver(ANN, "ann"), approver(BEN, "ben"), version=2, previous=previous)
    body = {"document": new, "signatures": [each.sign(Purpose.APPROVERS, new) for each in (ANN, BEN)]}
    assert call(agent, site, "PUT", "/v1/approvers", body)[0] == 200


def stop_by_terms(agent: Agent, site: Site, _operator: Operator) -> None:
    document = {"version": 1, "tenant_id": TENANT_ID, "ordinary": "closed", "emergency": "approvers"}
    body = {"document": document, "signature": OWNER.sign(Purpose.TERMS, document)}
    status, answer = call(agent, site, "PUT", "/v1/terms", body)
    assert (status, answer["version"]) == (200, 1)
    assert stated(agent, site)["terms"]["ordinary"] == "closed"


def stop_by_suspension(agent: Agent, site: Site, _operator: Operator) -> None:
    assert call(agent, site, "PUT", "/v1/suspended", {"suspended": True})[0] == 200
    assert call(agent, site, "PUT", "/v1/suspended", {"suspended": False})[0] == 200


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (stop_by_route, "portal"),
        (stop_by_owner, "owner"),
        (stop_by_set, "wrong_set"),
        (stop_by_terms, "closed"),
        (stop_by_suspension, "suspended"),
    ],
)
def test_a_stream_breaks_off(guest: Agent, site: Site, stop: Any, code: str) -> None:
    """While the end is answered, or before; and the access is over for good."""
    with (site.folder / "workspace" / "logs" / "large").open("wb") as file:
        file.truncate(LARGE)
    operator = let_in(guest, site)
    operator.sign_in()
    with operator.open("GET", READ) as answer:
        assert answer.status == 200
        assert len(answer.read(1000)) == 1000
        began = time.monotonic()
        stop(guest, site, operator)
        assert _rest(answer) < LARGE - 1000
        assert time.monotonic() - began < 5.0
    assert operator.code("GET", LIST) == "ended"
    found = receipts(guest, site)
    (end,) = [each for each in found if each["event"] == "ended"]
    assert (end["detail"]["code"], end["detail"]["streams"]) == (code, 1)
    assert "outcome" in [each["event"] for each in found]


def _rest(answer: Any) -> int:
    size = 0
    try:
        while data := answer.read(1 << 20):
            size += len(data)
    except OSError:
        pass
    return size


def test_a_keyring_without_the_owner_who_signed(guest: Agent, site: Site) -> None:
    """The owner's signature counts as long as the key is an owner's."""
    document = {"version": 1, "tenant_id": TENANT_ID, "ordinary": "owner", "emergency": "owner"}
    body = {"document": document, "signature": OWNER.sign(Purpose.TERMS, document)}
    call(guest, site, "PUT", "/v1/terms", body)
    ticket = a_ticket()
    grant = a_grant(ticket, owner=OWNER.sign(Purpose.OWNER_APPROVAL, ticket))
    assert call(guest, site, "PUT", "/v1/grants", {"grant": grant})[0] == 200
    current = Keyring.parse(keyring(TENANT_ID)).hash
    new = keyring(TENANT_ID, entry(STRANGER.key), version=2, previous=current)
    signed = {"document": new, "signature": OWNER.sign(Purpose.KEYRING, new)}
    assert call(guest, site, "PUT", "/v1/keyring", signed)[0] == 200
    assert stated(guest, site)["grants"] == []
    # Asked at once, not when it was due.
    assert receipts(guest, site)[-1]["detail"]["code"] == "bad_signature"


# Bodies


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PUT", "/v1/grants", {}, "bad_request"),
        ("PUT", "/v1/grants", {"grant": []}, "malformed"),
        ("PUT", "/v1/grants", {"grant": {}, "more": 1}, "bad_request"),
        ("POST", "/v1/grants/end", {"ticket": "x"}, "bad_request"),
        ("POST", "/v1/grants/end", {"ticket": 1}, "bad_request"),
        ("PUT", "/v1/terms", {"document": {}, "signature": {}}, "malformed"),
        ("GET", "/v1/receipts?after=-1", None, "bad_request"),
        ("GET", "/v1/receipts?before=1", None, "bad_request"),
        ("PUT", "/v1/approvers", {"document": a_set(policy={}), "signatures": []}, "malformed"),
    ],
)
def test_what_is_no_such_thing(
    guest: Agent, site: Site, method: str, path: str, body: Any, expected: str
) -> None:
    assert call(guest, site, method, path, body)[1]["error"] == expected


def test_control_routes_tell_deeds_and_no_content(guest: Agent, site: Site, tmp_path: Path) -> None:
    """Whatever the portal asks of them: no byte of the workspace."""
    (tmp_path / "workspace" / "logs" / "canary.txt").write_text("canary-of-the-tenant")
    operator = let_in(guest, site, a_ticket(paths=["logs"]))
    operator.sign_in()
    assert operator.ask("GET", "/v1/break-glass/files?path=logs/canary.txt")[1] == b"canary-of-the-tenant"
    for path in ("/v1/receipts?after=0", "/v1/status"):
        assert "canary-of" not in str(call(guest, site, "GET", path))
    assert RAE.key.public_key.hex() not in str(stated(guest, site))
