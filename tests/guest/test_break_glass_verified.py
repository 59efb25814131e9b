"""What a real agent notes of an operator's access, in the tenant's hands: the standalone verifier believes it."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.access_receipts import START
from protocol.canonical import canonical
from protocol.verify.access import FORMAT, Access, verify_access
from protocol.verify.outcome import Keys, VerificationError
from tests.guest.conftest import Site
from tests.guest.files import at
from tests.guest.fleet import RUNTIME_ID
from tests.guest.glass import all_scopes
from tests.guest.operators import Operator, let_in, name_approvers
from tests.guest.shop import Shop, enter
from tests.guest.test_gate import call
from tests.protocol.logs import KEY, Log
from tests.protocol.people import RP_ID
from tests.protocol.ticketing import ANN, BEN, PORTAL_ORIGIN, TENANT_ID, a_grant, a_set, a_ticket


def event(action: str, target: dict[str, str], data: dict[str, Any]) -> str:
    entry = {"version": 2, "action": action, "tenant": TENANT_ID, "target": target, "data": data}
    return canonical(entry).decode()


def exported(path: Path, grants: list[Any], told: Any, vkey: str) -> Path:
    """The file, from what the agent answers to the portal."""
    receipts = told["receipts"]
    newest = receipts[-1]["seq"]
    log = Log(
        [
            event("witness.registered", {"type": "witness", "id": "1"}, {"vkey": vkey}),
            event(
                "break_glass.receipts",
                {"type": "runtime", "id": RUNTIME_ID},
                {"from": 1, "to": newest, "head": told["statement"]["hash"]},
            ),
        ]
    )
    header = {"format": FORMAT, "tenant": TENANT_ID, "runtime": RUNTIME_ID, "rp_id": RP_ID}
    lines = [
        header | {"origins": [PORTAL_ORIGIN], "after": {"seq": 0, "hash": START[1]}},
        {"set": a_set()},
        *({"grant": grant} for grant in grants),
        *({"receipt": receipt} for receipt in receipts),
        {"head": told["head"]},
        *({"entry": log.receipt(index).to_json()} for index in (0, 1)),
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def work(operator: Operator) -> None:
    """Some of everything, and some that is refused."""
    operator.sign_in()
    for method, where in (
        ("GET", "/v1/break-glass"),
        ("GET", "/v1/break-glass/status"),
        ("GET", "/v1/break-glass/list?path=logs"),
        ("GET", at("/v1/break-glass/files", path="notes/today.txt")),
        ("GET", at("/v1/break-glass/files", path="logs/../secret")),
        ("DELETE", at("/v1/break-glass/files", path="logs/none")),
    ):
        operator.code(method, where)


@pytest.mark.parametrize("wide", [False, True])
def test_an_access_from_grant_to_end(site: Site, tmp_path: Path, wide: bool) -> None:
    """Every receipt that the agent writes is one that the verifier takes, also of what it refused."""
    shop = Shop(site)
    with shop.agent() as agent:
        enter(shop, agent)
        name_approvers(agent, site)
        document = all_scopes() if wide else a_ticket()
        operator = let_in(agent, site, document)
        work(operator)
        assert call(agent, site, "POST", "/v1/grants/end", {"ticket": operator.ticket.ticket})[0] == 200
        operator.code("GET", "/v1/break-glass/status")
        _, told = call(agent, site, "GET", "/v1/receipts?after=0")
        _, status = call(agent, site, "GET", "/v1/status")
    told["statement"] = status["receipts"]
    grant = a_grant(document, by=[ANN, BEN])
    path = exported(tmp_path / "file", [grant], told, status["witness"]["vkey"])
    found: Access = verify_access(path, Keys(KEY))
    assert (found.first, found.last, found.anchored) == (1, len(told["receipts"]), found.last)
    lines = "\n".join(found.deeds)
    assert '"notes/today.txt"' in lines
    assert "Rae" in lines
    ends = [one for one in told["receipts"] if one["event"] in {"ended", "refused"}]
    assert {"ended", "refused"} == {one["event"] for one in ends}
    with pytest.raises(VerificationError, match="fewer people"):
        verify_access(exported(path, [a_grant(document, by=[])], told, status["witness"]["vkey"]), Keys(KEY))
