"""The witness on a real agent process: who may ask, what it answers, and what a kill leaves."""

import http.client
import json
from typing import Any

import pytest

from guest.agent.gate import ACCESS, Access
from protocol.checkpoints import check_cosignature
from protocol.enrolment import PROXY_URI
from protocol.notes import Note, VerifierKey
from protocol.tokens import sign
from tests.guest.conftest import Site
from tests.guest.files import Person
from tests.guest.fleet import TOKEN_SEED, Agent, caller, personalise, running, start, token
from tests.guest.shop import wait_for
from tests.guest.test_gate import call, pin, sign_in
from tests.protocol.growing import Log
from tests.protocol.people import MEMBER, OWNER, Device, entry

LOG = Log.of(20)
PATH = "/v1/checkpoint"


@pytest.fixture
def site(site: Site) -> Site:
    """Whose papers name the log."""
    site.personalisation = personalise(site.folder, site.authority, log_vkey=str(LOG.vkey))
    return site


def offer(agent: Agent, site: Site, old: int, size: int, log: Log = LOG) -> Any:
    status, answer = call(agent, site, "POST", PATH, {"request": log.request(old, size).to_text()})
    assert status == 200, answer
    return answer


def stated(agent: Agent, site: Site) -> Any:
    return call(agent, site, "GET", "/v1/status")[1]["witness"]


def person(agent: Agent, site: Site, who: Device = OWNER) -> Person:
    return Person(agent, site, str(sign_in(agent, site, who)[1]["session"]), who=who)


def test_a_life(site: Site) -> None:
    """Accepted, extended, a fork refused; and all of it known after a restart."""
    with running(site.personalisation, site.data) as agent:
        before = stated(agent, site)
        assert (before["size"], before["log"], before["contradictions"]) == (0, str(LOG.vkey), 0)
        assert offer(agent, site, 0, 7)["verdict"] == "signed"
        answer = offer(agent, site, 7, 12)
        note = Note.parse(LOG.note(12)).signed_also(answer["cosignature"])
        assert check_cosignature(note, VerifierKey.parse(before["vkey"]))
        refused = {"verdict": "refused", "reason": "proof", "size": 12}
        assert offer(agent, site, 12, 14, LOG.fork(3, 14)) == refused
        said = stated(agent, site)
        assert (said["size"], said["doubts"], said["vkey"]) == (12, 1, before["vkey"])
        assert offer(agent, site, 12, 12, LOG.fork(3, 12))["reason"] == "forked"
        said = stated(agent, site)
        assert (said["contradictions"], said["doubts"]) == (1, 1)
    with running(site.personalisation, site.data) as agent:
        assert stated(agent, site) == said
        assert offer(agent, site, 7, 9)["reason"] == "smaller"
        assert offer(agent, site, 12, 20)["verdict"] == "signed"


def test_killed_between_accepting_and_answering(site: Site) -> None:
    """The portal hears nothing, asks again as if nothing had been, and goes on from what the guest holds."""
    with running(site.personalisation, site.data) as agent:
        memory = site.data / "witness.json"
        before = memory.read_bytes()
        body = json.dumps({"request": LOG.request(0, 7).to_text()}).encode()
        line = http.client.HTTPSConnection("127.0.0.1", agent.port, context=site.control_plane.context())
        line.request(
            "POST", PATH, body, {"Authorization": f"Bearer {sign(token('POST', PATH, body), TOKEN_SEED)}"}
        )
        wait_for(lambda: memory.read_bytes() != before)
        agent.process.kill()
        line.close()
    with running(site.personalisation, site.data) as agent:
        assert offer(agent, site, 0, 9) == {"verdict": "refused", "reason": "stale", "size": 7}
        assert offer(agent, site, 7, 9)["verdict"] == "signed"


def test_who_may_ask(agent: Agent, site: Site) -> None:
    """The control plane only: the proxy's certificate does not reach it, whoever stands behind it."""
    assert ACCESS["POST", PATH] is Access.CONTROL
    proxy = caller(site.folder, "proxy", site.authority, uri=PROXY_URI)
    status, answer = agent.call(proxy.context(), "POST", PATH, {"request": "x"})
    assert (status, answer["error"]) == (403, "not_for_this_caller")


@pytest.mark.parametrize("body", [{}, {"request": 1}, {"request": "x", "more": "y"}, b"["])
def test_a_body_that_is_none(agent: Agent, site: Site, body: Any) -> None:
    status, answer = call(agent, site, "POST", PATH, body)
    assert (status, answer["error"]) == (400, "bad_request")


def test_what_members_see(agent: Agent, site: Site) -> None:
    """The checkpoint itself with both signatures, and what contradicts it; an owner puts the alarm down."""
    pin(agent, site, entry(OWNER.key), entry(MEMBER.key, role="member"))
    offer(agent, site, 0, 7)
    offer(agent, site, 6, 6)
    offer(agent, site, 7, 7, LOG.fork(3, 7))
    member, owner = person(agent, site, MEMBER), person(agent, site)
    shown = member.ask("GET", "/v1/witness").document
    note = Note.parse(shown["note"])
    assert check_cosignature(note, VerifierKey.parse(shown["vkey"])) == shown["at"]
    assert (shown["size"], shown["unseen"], shown["contradictions"][0]["reason"]) == (7, 2, "forked")
    assert [each["reason"] for each in shown["doubts"]] == ["smaller"]
    assert member.ask("POST", "/v1/witness/seen").code == "not_an_owner"
    assert owner.ask("POST", "/v1/witness/seen").document["unseen"] == 0
    assert len(member.ask("GET", "/v1/witness").document["contradictions"]) == 1


def test_a_damaged_memory_keeps_the_agent_from_starting(site: Site) -> None:
    """It says which file, and nothing of what it holds."""
    with running(site.personalisation, site.data) as agent:
        offer(agent, site, 0, 7)
    (site.data / "witness.json").write_bytes(b"{}")
    process = start(site.personalisation, site.data)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "witness.json is damaged" in said


def test_papers_with_a_key_that_is_none(site: Site) -> None:
    """The agent says so and does not start: it would otherwise pin nonsense for good."""
    papers = json.loads(site.personalisation.read_bytes()) | {
        "log_vkey": "portal.localhost/log+00000000+AAAA"
    }
    site.personalisation.write_text(json.dumps(papers))
    process = start(site.personalisation, site.data)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, "malformed personalisation" in said) == (1, True)
