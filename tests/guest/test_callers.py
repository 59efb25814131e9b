"""Who may knock where: the control plane, its proxy, and certificates that are good no more; on a real agent."""

import http.client
import json
from dataclasses import asdict
from typing import Any

import pytest

from guest.agent.callers import Caller
from guest.agent.gate import ACCESS, MAY_CALL, ROUTED, UNDER_TICKETS, Access
from guest.agent.pages import HEADERS
from protocol.enrolment import PROXY_URI
from protocol.tokens import sign
from tests.guest.conftest import Site
from tests.guest.fleet import ROUTE_SEED, Agent, Authority, caller, personalise, running, token, trust
from tests.guest.test_agent_door import refused
from tests.guest.test_gate import call

CONTROL = [route for route, access in ACCESS.items() if access is Access.CONTROL]
OPENED = [route for route, access in ACCESS.items() if access in ROUTED - UNDER_TICKETS]
TICKETS = [route for route, access in ACCESS.items() if access in UNDER_TICKETS]


def put_trust(agent: Agent, site: Site, *authorities: Authority, **changed: Any) -> tuple[int, Any]:
    body = {"trust": asdict(trust(*authorities, **changed))}
    return call(agent, site, "PUT", "/v1/trust", body)


def proxy_of(site: Site) -> Any:
    return caller(site.folder, "proxy", site.authority, uri=PROXY_URI).context()


# The proxy


@pytest.mark.parametrize(("method", "path"), CONTROL)
def test_the_proxy_on_a_control_route(agent: Agent, site: Site, method: str, path: str) -> None:
    """Walked from the table: even with a perfect token its certificate opens none of them."""
    status, answer = agent.call(proxy_of(site), method, path)
    assert (status, answer["error"]) == (403, "not_for_this_caller")


@pytest.mark.parametrize(("method", "path"), CONTROL)
def test_the_route_key_on_a_control_route(agent: Agent, site: Site, method: str, path: str) -> None:
    """Web's key signs for routed requests; on a control route its token is no token."""
    bearer = {"Authorization": f"Bearer {sign(token(method, path), ROUTE_SEED)}"}
    status, answer = agent.call(site.control_plane.context(), method, path, headers=bearer)
    assert (status, answer["error"]) == (401, "token_invalid")


@pytest.mark.parametrize(("method", "path"), OPENED)
def test_the_proxy_where_members_go(agent: Agent, site: Site, method: str, path: str) -> None:
    """With the route key's token, whose body may be unknown: led to the session, or to the page itself."""
    bearer = {"Authorization": f"Bearer {sign(token(method, path, None), ROUTE_SEED)}"}
    status, answer = agent.call(proxy_of(site), method, path, headers=bearer)
    if ACCESS[method, path] is Access.SIGN_IN:
        assert status in {200, 400}
    else:
        assert (status, answer["error"]) == (403, "session_required")


@pytest.mark.parametrize(("method", "path"), TICKETS)
def test_the_proxy_where_operators_go(agent: Agent, site: Site, method: str, path: str) -> None:
    """A member's token is none there; that a ticket's is led to its grant is `test_break_glass_routes`'s."""
    bearer = {"Authorization": f"Bearer {sign(token(method, path, None), ROUTE_SEED)}"}
    status, answer = agent.call(proxy_of(site), method, path, headers=bearer)
    assert (status, answer["error"]) == (401, "token_invalid")


def test_the_table_of_callers() -> None:
    assert MAY_CALL.keys() == set(Caller)
    assert Access.CONTROL not in MAY_CALL[Caller.PROXY]


# Trust


def test_a_revoked_certificate(agent: Agent, site: Site) -> None:
    """Refused on new connections; those that are open end; the others go on."""
    stolen = caller(site.folder, "stolen", site.authority)
    line = http.client.HTTPSConnection("127.0.0.1", agent.port, context=stolen.context(), timeout=5)
    line.request("GET", "/v1/health")
    line.getresponse().read()
    serial = f"{stolen.certificate.serial_number:x}"
    assert put_trust(agent, site, site.authority, revoked_serials=[serial])[0] == 200
    with pytest.raises((ConnectionError, http.client.HTTPException, OSError)):
        line.request("GET", "/v1/health")
        line.getresponse()
    refused(agent, stolen.context())
    assert call(agent, site, "GET", "/v1/health")[0] == 200


def test_a_ca_that_comes_and_one_that_goes(agent: Agent, site: Site) -> None:
    """At once and without a restart, though OpenSSL forgets no CA."""
    newer = Authority()
    fresh = caller(site.folder, "fresh", newer)
    refused(agent, fresh.context())
    assert put_trust(agent, site, newer, site.authority)[0] == 200
    assert agent.call(fresh.context(), "GET", "/v1/health")[0] == 200
    body = {"trust": asdict(trust(newer))}
    assert agent.call(fresh.context(), "PUT", "/v1/trust", body)[0] == 200
    refused(agent, site.control_plane.context())
    assert agent.call(fresh.context(), "GET", "/v1/health")[0] == 200


def test_the_later_one_holds(site: Site) -> None:
    """Over a restart too; an older one is refused, an older start's papers bring nothing back."""
    with running(site.personalisation, site.data) as agent:
        told = trust(site.authority, revoked_serials=["abc"], issued_at=4_000_000_000)
        body = {"trust": asdict(told)}
        assert call(agent, site, "PUT", "/v1/trust", body) == (200, {"trust": told.hash})
        status, answer = put_trust(agent, site, site.authority)
        assert (status, answer["error"]) == (409, "rolled_back")
    personalise(site.folder, site.authority)
    with running(site.personalisation, site.data) as agent:
        assert call(agent, site, "GET", "/v1/status")[1]["trust"] == told.hash


def test_a_damaged_file_is_left_aside(site: Site) -> None:
    """The papers of the start are there; nobody is locked out."""
    with running(site.personalisation, site.data) as agent:
        assert put_trust(agent, site, site.authority, revoked_serials=["abc"])[0] == 200
    (site.data / "trust.json").write_text("{")
    with running(site.personalisation, site.data) as agent:
        assert call(agent, site, "GET", "/v1/status")[1]["trust"] == trust(site.authority).hash


@pytest.mark.parametrize(
    "changed",
    [
        {"ca_certificates": []},
        {"ca_certificates": ["PEM"]},
        {"token_keys": []},
        {"token_keys": ["ab"]},
        {"route_keys": ["zz" * 32]},
        {"revoked_serials": ["serial"]},
        {"revoked_serials": ["a"] * 65},
        {"issued_at": "now"},
    ],
)
def test_a_malformed_trust(agent: Agent, site: Site, changed: dict[str, Any]) -> None:
    """Also one that would lock everybody out."""
    body = {"trust": asdict(trust(site.authority)) | changed}
    status, answer = call(agent, site, "PUT", "/v1/trust", body)
    assert (status, answer["error"]) == (422, "malformed")
    assert call(agent, site, "GET", "/v1/health")[0] == 200


# Answers


def test_every_answer_says_whose_it_is(agent: Agent, site: Site) -> None:
    """Refusals too: another tenant's origin is the same site to a browser."""
    for method, path in (("GET", "/"), ("GET", "/v1/health"), ("GET", "/v1/workspace"), ("GET", "/nowhere")):
        line = http.client.HTTPSConnection(
            "127.0.0.1", agent.port, context=site.control_plane.context(), timeout=5
        )
        line.request(method, path)
        answer = line.getresponse()
        told = {name: answer.getheader(name) for name in HEADERS}
        line.close()
        assert told == HEADERS, path


def test_the_page_runs_no_foreign_script(agent: Agent, site: Site) -> None:
    _, page = call(agent, site, "GET", "/")
    assert 'content="portal.localhost"' in page
    assert "{{" not in page
    assert page.count("<script") == page.count('<script src="/') == 4
    assert "style=" not in page
    assert "onclick" not in page
    assert json.dumps(call(agent, site, "GET", "/v1/door")[1]) == '{"signed_in": false}'
