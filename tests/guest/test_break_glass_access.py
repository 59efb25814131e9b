"""What an operator is told of ticket, logs and machine, and what members see of it: on a real agent."""

import asyncio
import base64
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from guest.agent.breakglass.logs import Logs
from guest.agent.jobs.records import Asked, JobRefused, Kind, Who
from guest.agent.jobs.runner import Runner
from guest.agent.jobs.store import Store
from guest.agent.launcher import Launcher
from guest.agent.pages import FILES
from protocol.access_receipts import START, check_chain
from protocol.enrolment import Limits
from tests.guest.conftest import Site
from tests.guest.files import at
from tests.guest.fleet import RUNTIME_ID, Agent, running
from tests.guest.glass import all_scopes
from tests.guest.operators import Operator, let_in, name_approvers
from tests.guest.shop import Shop, Worker, enter
from tests.guest.test_gate import call, pin
from tests.protocol.people import MEMBER
from tests.protocol.ticketing import a_set, a_ticket

TELL_TALE = "what the job said"


def test_logs_status_and_ticket(site: Site) -> None:
    """Members' jobs and the journal, in pieces; the machine's status; and the ticket itself."""
    shop = Shop(site)
    shop.folder.mkdir()
    with shop.launcher(), shop.agent() as agent:
        owner = enter(shop, agent)
        name_approvers(agent, site)
        job = owner.run("sh", "-c", f"echo {TELL_TALE}; head -c 300000 /dev/zero | tr '\\000' x")
        owner.until(job)
        operator = let_in(agent, site, all_scopes())
        operator.sign_in()
        _, told = operator.ask("GET", "/v1/break-glass")
        assert (told["operator"], told["paths"], told["kind"]) == ("Rae", [""], "ordinary")
        assert 1700 < told["seconds_left"] <= 1800

        _, listed = operator.ask("GET", "/v1/break-glass/logs")
        assert [each["name"] for each in listed["logs"]] == ["agent", "gateway", f"job:{job}"]
        assert (listed["complete"], listed["logs"][2]["state"]) == (True, "succeeded")
        whole, offset, end = b"", 0, False
        while not end:
            where = f"/v1/break-glass/logs/read?name=job:{job}&offset={offset}"
            _, piece = operator.ask("GET", where)
            whole += base64.b64decode(piece["data"])
            offset, end = piece["next"], piece["end"]
        assert whole == TELL_TALE.encode() + b"\n" + b"x" * 300_000
        _, journal = operator.ask("GET", "/v1/break-glass/logs/read?name=gateway")
        assert base64.b64decode(journal["data"]) == b"what the gateway said\n"
        for name in ("ssh", "job:", f"job:{job}/../../agent/keys", "../agent", f"jobs:{job}"):
            code = operator.code("GET", at("/v1/break-glass/logs/read", name=name))
            assert code == "bad_request", name
        missing = "job:6a1c3f1e-0d1b-4a55-9c1f-2f6f6f0f9a01"
        assert operator.code("GET", f"/v1/break-glass/logs/read?name={missing}") == "no_such_job"
        _, status = operator.ask("GET", "/v1/break-glass/status")
        assert status["runtime_id"] == RUNTIME_ID
        assert status["grants"] == [operator.ticket.ticket]


def test_what_members_say_to_the_gateway_is_no_log(tmp_path: Path) -> None:
    """Neither its text, which would be its title, nor the answer: one approver for logs is not one for that."""
    store = Store(tmp_path)
    said = Asked(str(uuid.uuid4()), Kind.MESSAGE, text=TELL_TALE)
    ran = Asked(str(uuid.uuid4()), Kind.COMMAND, argv=("true",))
    for asked in (said, ran):
        store.add(asked, Who("a", "b"), 1)
    limits = Limits(64, 8, 1, 4, 600)
    runner = Runner(store, limits, "boot", suspended=lambda: False, is_member=lambda _: True)
    logs = Logs(Launcher(tmp_path / "none"), runner)

    async def case() -> None:
        listed = await logs.listing(make_mocked_request("GET", "/v1/break-glass/logs"))
        assert [each["name"] for each in json.loads(listed.text or "")["logs"]] == [f"job:{ran.id}"]
        with pytest.raises(JobRefused, match="no ticket opens"):
            await logs.read(make_mocked_request("GET", f"/v1/break-glass/logs/read?name=job:{said.id}"))

    asyncio.run(case())


def test_a_simulated_machine_has_no_journal(site: Site) -> None:
    with running(site.personalisation, site.data) as agent:
        pin(agent, site)
        name_approvers(agent, site)
        operator = let_in(agent, site, a_ticket(scopes=["logs:read"], paths=[]))
        operator.sign_in()
        assert operator.ask("GET", "/v1/break-glass/logs") == (200, {"logs": [], "complete": True})
        assert operator.code("GET", "/v1/break-glass/logs/read?name=agent") == "no_launcher"


def grants(worker: Worker) -> Any:
    return worker.person.ask("GET", "/v1/grants").document


def stop(worker: Worker, ticket: Any) -> Any:
    return worker.person.ask("POST", "/v1/grants/stop", json.dumps({"ticket": ticket}).encode())


def read_out(worker: Worker) -> list[dict[str, Any]]:
    """All receipts, page by page, as the page saves them."""
    found: list[dict[str, Any]] = []
    while True:
        told = worker.person.ask("GET", f"/v1/grants?after={len(found)}").document
        if not told["receipts"]:
            return found
        found += told["receipts"]


def test_what_members_see(site: Site) -> None:
    """Every member sees who is let in, why and what was done; an owner ends it, a member does not."""
    shop = Shop(site)
    with shop.agent() as agent:
        owner = enter(shop, agent)
        member = shop.arrive(agent, MEMBER)
        name_approvers(agent, site)
        assert grants(member) | {"head": "", "names": {}} == {
            "grants": [],
            "receipts": [],
            "newest": 0,
            "head": "",
            "names": {},
            "terms": None,
            "policy": a_set()["policy"],
        }
        operator = let_in(agent, site)
        operator.sign_in()
        operator.code("GET", "/v1/break-glass/list?path=logs")
        told = grants(member)
        (grant,) = told["grants"]
        assert told["names"] == {"ann": "Ann", "ben": "Ben", "cat": "Cat"}
        assert grant["ticket"] == operator.ticket.document
        assert grant["people"] == ["ann", "ben"]
        assert 1700 < grant["seconds_left"] <= 1800
        assert [each["event"] for each in told["receipts"]] == ["granted", "session", "access", "outcome"]
        assert (told["receipts"][2]["detail"]["path"], told["newest"]) == ("logs", 4)

        refused = stop(member, operator.ticket.ticket)
        assert (refused.status, refused.code) == (403, "not_an_owner")
        assert operator.code("GET", "/v1/break-glass") == "ok"
        assert stop(owner, "../x").code == "bad_request"
        assert stop(owner, operator.ticket.ticket).document == {"ended": True, "streams": 0}
        assert operator.code("GET", "/v1/break-glass") == "ended"
        assert grants(member)["grants"] == []
        ended = next(each for each in read_out(member) if each["event"] == "ended")
        assert ended["detail"]["code"] == "owner"
        check_chain(read_out(member), START, runtime_id=RUNTIME_ID)
        assert stop(owner, operator.ticket.ticket).document["ended"] is False


def test_more_receipts_than_a_page(site: Site) -> None:
    """The newest come first to the page; all of them can be read out."""
    shop = Shop(site)
    with shop.agent() as agent:
        owner = enter(shop, agent)
        name_approvers(agent, site)
        operator = let_in(agent, site)
        operator.sign_in()
        for _ in range(102):
            operator.code("GET", "/v1/break-glass/list?path=logs", sub=f"user:{_}")
        told = grants(owner)
        assert (len(told["receipts"]), told["newest"]) == (200, 206)
        assert told["receipts"][-1]["seq"] == 206
        whole = read_out(owner)
        assert check_chain(whole, START, runtime_id=RUNTIME_ID)[0] == 206


@pytest.fixture
def operator(agent: Agent, site: Site) -> Operator:
    pin(agent, site)
    name_approvers(agent, site)
    return let_in(agent, site)


def test_the_operators_page(operator: Operator) -> None:
    """Served under the ticket before there is a session, with the policy of all our pages."""
    for path in ("/break-glass", "/break-glass.js", "/break-glass.css"):
        with operator.open("GET", path) as answer:
            text = answer.read().decode()
            assert answer.status == 200
            assert answer.getheader("Content-Type", "").startswith(FILES[path][1])
            policy = answer.getheader("Content-Security-Policy", "")
        assert "default-src 'none'; script-src 'self'" in policy
        assert "{{" not in text
        assert "style=" not in text


def test_what_the_gate_itself_refuses_has_a_receipt(operator: Operator, agent: Agent, site: Site) -> None:
    """The portal knows that it carried the request: without a receipt it would think that the guest keeps none."""
    operator.sign_in()
    call(agent, site, "PUT", "/v1/suspended", {"suspended": True})
    assert operator.code("GET", "/v1/break-glass/list?path=logs", jti="7" * 32) == "suspended"
    told = call(agent, site, "GET", "/v1/receipts?after=0")[1]["receipts"][-1]
    assert (told["event"], told["token"], told["detail"]["code"]) == ("refused", "7" * 32, "suspended")
