"""An operator at a real agent: with the portal's tokens for one ticket, and a browser on the guest's own page."""

import http.client
import json
from dataclasses import dataclass, field
from typing import Any

from guest.agent.breakglass.guard import COOKIE
from protocol.persons import Purpose
from protocol.tickets import Ticket
from protocol.tokens import sign
from tests.guest.conftest import Site
from tests.guest.fleet import ROUTE_SEED, TENANT_ID, Agent, Caller
from tests.guest.glass import OWN_PAGE, token_of
from tests.guest.test_gate import call
from tests.protocol.people import OWNER, Passkey, naming
from tests.protocol.ticketing import ANN, BEN, RAE, a_grant, a_set, a_ticket


def name_approvers(agent: Agent, site: Site) -> None:
    """Ann, Ben and Cat, with the owner's signature."""
    body = {"document": a_set(), "signatures": [naming(OWNER, a_set(), TENANT_ID)]}
    status, answer = call(agent, site, "PUT", "/v1/approvers", body)
    assert status == 200, answer


def let_in(agent: Agent, site: Site, document: Any = None) -> "Operator":
    """An operator whose grant the guest has taken."""
    ticket = a_ticket() if document is None else document
    status, answer = call(agent, site, "PUT", "/v1/grants", {"grant": a_grant(ticket, by=[ANN, BEN])})
    assert status == 200, answer
    return Operator(agent, site.control_plane, Ticket.parse(ticket))


@dataclass
class Operator:
    """Who works under a ticket."""

    agent: Agent
    caller: Caller
    ticket: Ticket
    cookies: list[str] = field(default_factory=list)

    def open(
        self, method: str, path: str, body: Any = None, *, bearer: str = "", **changed: Any
    ) -> http.client.HTTPResponse:
        """The answer, unread. The token is perfect but for what is ``changed``."""
        text = bearer or sign(token_of(self.ticket, method, path, **changed), ROUTE_SEED)
        line = http.client.HTTPSConnection(
            "127.0.0.1", self.agent.port, context=self.caller.context(), timeout=10
        )
        headers = OWN_PAGE | {"Authorization": f"Bearer {text}", "Connection": "close"}
        if self.cookies:
            headers["Cookie"] = "; ".join(self.cookies)
        line.request(method, path, None if body is None else json.dumps(body), headers)
        return line.getresponse()

    def ask(self, *given: Any, **more: Any) -> tuple[int, Any]:
        """Status and decoded answer."""
        with self.open(*given, **more) as answer:
            data = answer.read()
            if answer.getheader("Content-Type", "").startswith("application/json"):
                return answer.status, json.loads(data)
            return answer.status, data

    def code(self, *given: Any, **more: Any) -> str:
        """``ok``, or the code of the refusal."""
        status, said = self.ask(*given, **more)
        return "ok" if status < 300 else str(said["error"])

    def sign_in(self, by: Passkey = RAE) -> tuple[int, Any]:
        """Begin a session; the browser keeps its cookie."""
        status, asked = self.ask("POST", "/v1/break-glass/challenge")
        assert status == 200, asked
        signature = by.sign(Purpose.ACCESS, asked) | {"nonce": asked["nonce"]}
        with self.open("POST", "/v1/break-glass/sessions", {"signature": signature}) as answer:
            said = json.loads(answer.read())
            cookie = answer.getheader("Set-Cookie", "")
            if answer.status == 200:
                assert cookie.startswith(f"{COOKIE}=")
                assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
                self.cookies = [cookie.partition(";")[0]]
            return answer.status, said
