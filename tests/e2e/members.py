"""A member who signs in to a real guest, with everything that the control plane holds to get there."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import httpx

from protocol.enrolment import runtime_dns_name
from protocol.persons import Purpose
from protocol.sessions import PROOF_HEADER, SESSION_HEADER, Request, prove
from protocol.tokens import sign
from provisioning.driver import connect
from provisioning.fleet_keys import token_seed
from provisioning.models import Host, Runtime
from provisioning.runtime_client import RuntimeClient
from provisioning.specs import host_spec, runtime_spec
from tests.protocol.people import OWNER, entry, keyring


@dataclass
class Member:
    """The tenant's owner, signed in with a device key."""

    portal: RuntimeClient
    runtime: Runtime
    address: str
    port: int
    session: str = ""
    counter: int = 0

    @classmethod
    def sign_in(cls, runtime: Runtime, host: Host) -> "Member":
        """Pin a keyring that names the owner, and begin a session with the owner's key."""
        with connect(host_spec(host)) as driver:
            address, port = driver.endpoint(runtime_spec(runtime))
        member = cls(RuntimeClient(runtime, address, port), runtime, address, port)
        document = keyring(str(runtime.tenant_id), entry(OWNER.key))
        member.portal.deliver_keyring(document, OWNER.sign(Purpose.KEYRING, document))
        challenge = member.ask("POST", "/v1/sessions/challenge").json()
        signature = {**OWNER.sign(Purpose.SESSION, challenge), "nonce": challenge["nonce"]}
        answer = member.ask("POST", "/v1/sessions", json.dumps({"signature": signature}).encode())
        member.session = answer.json()["session"]
        return member

    def ask(self, method: str, path: str, body: bytes = b"", **more: str) -> httpx.Response:
        """One request, proven where there is a session."""
        token = sign(self.portal._token(method, path, body), token_seed())
        headers = {"Authorization": f"Bearer {token}", "X-Content-SHA256": sha256(body).hexdigest(), **more}
        if self.session:
            self.counter += 1
            asked = Request(method, path, sha256(body).hexdigest())
            shown = prove(OWNER.seed, self.session, asked, self.counter)
            headers |= {SESSION_HEADER: self.session, PROOF_HEADER: shown}
        # An agent's turn is one request, and takes minutes where the machine has other work.
        patience = httpx.Timeout(240, connect=20)
        context = self.portal._context(verified=True)
        with httpx.Client(verify=context, timeout=patience, trust_env=False) as client:
            request = client.build_request(
                method,
                f"https://{self.address}:{self.port}{path}",
                content=body,
                headers=headers,
                extensions={"sni_hostname": runtime_dns_name(str(self.runtime.pk))},
            )
            return client.send(request)

    def post(self, path: str, document: Any) -> httpx.Response:
        return self.ask("POST", path, json.dumps(document).encode())
