"""The only code that calls agents. Mutual TLS 1.3 and a token; time-outs everywhere; no body is logged.

Before enrolment the guest has only a certificate of its own making, so the two enrolment calls check the
guest by HMAC instead of by certificate (:mod:`provisioning.enrolment`).
"""

import json
import math
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Self

import httpx
from django.db import transaction

from audit.context import SYSTEM, Actor
from audit.services import record
from protocol.enrolment import CONTROL_PLANE_URI, Trust, runtime_dns_name
from protocol.tokens import RuntimeToken, new_runtime_token, sign
from provisioning.deadlines import Clock
from provisioning.driver import connect
from provisioning.fleet_keys import authorities, fleet_key, private_pem, token_seed
from provisioning.kept_clients import ClientPool, KeptClient
from provisioning.models import FleetKey, Runtime
from provisioning.specs import host_spec, runtime_spec

TIMEOUT = httpx.Timeout(20.0, connect=5.0)
URGENT_TIMEOUT = httpx.Timeout(8.0, connect=3.0)
"""For what ends access: one guest that does not answer must not hold up the ends in others."""
DEADLINE, URGENT_DEADLINE = 60.0, 10.0
"""Seconds for a whole call: the time-outs above begin anew with each byte, and a guest may drip."""
URGENT_PATIENCE = 20.0
"""Seconds for all calls of one urgent client together: so long can one guest keep an urgent thread."""
MAX_ANSWER_BYTES = 256 * 1024
MAX_RECEIPTS_BYTES = 2 * 1024 * 1024
KEPT_SECONDS = 4.0
"""Less than the ten that an agent waits for the next request."""
POOL_LIMIT = 32
_IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
_REPEATABLE = frozenset(
    {
        "/v1/secrets/revoke",
        "/v1/secrets/export",
        "/v1/sealing-key/rotate",
        "/v1/sealing-key/retire",
        "/v1/checkpoint",
        "/v1/grants/end",
    }
)
"""Paths whose POST changes nothing when it comes again: it names the state that it starts from or ends in."""
_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")


class AgentUnreachable(Exception):
    """No connection, no TLS or no answer in time."""


class AgentRefused(Exception):
    """The agent answered with an error; ``code`` is its machine-readable reason."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{code} ({status})")
        self.status, self.code = status, code


class ConnectionBroke(AgentUnreachable):
    """It broke under way; the agent may or may not have heard."""


_POOL = ClientPool(POOL_LIMIT)


class RuntimeClient:
    """Calls one runtime's agent at ``address:port``, on behalf of ``actor``.

    Each call carries a token for exactly that request. An entry of the intent is committed before it and one
    of the outcome after it; neither holds a body.
    """

    def __init__(
        self,
        runtime: Runtime,
        address: str,
        port: int,
        actor: Actor = SYSTEM,
        timeout: httpx.Timeout = TIMEOUT,
        deadline: float | None = None,
        patience: float = math.inf,
    ) -> None:
        self._runtime, self._actor, self._timeout = runtime, actor, timeout
        self._deadline = DEADLINE if deadline is None else deadline
        self._until = time.monotonic() + patience
        self._name = runtime_dns_name(str(runtime.pk))
        self._address, self._port = address, port

    @classmethod
    def dial(cls, runtime: Runtime, actor: Actor = SYSTEM) -> Self:
        """A client for the agent of ``runtime``, at the address that its host's driver names.

        Raises:
            AgentUnreachable: the runtime has no host.
            DriverError: the host does not answer.
        """
        if runtime.host is None:
            raise AgentUnreachable("The runtime has no host.")
        with connect(host_spec(runtime.host)) as driver:
            return cls(runtime, *driver.endpoint(runtime_spec(runtime)), actor)

    @classmethod
    def urgent(cls, runtime: Runtime, actor: Actor = SYSTEM) -> Self:
        """A client for the agent at the address in its row, with short patience and without asking its host.

        Whether libvirt answers must not matter to the end of access. A wrong address gets nothing: who
        answers there must show this runtime's certificate.

        Raises:
            AgentUnreachable: the runtime has no address.
        """
        address, colon, port = runtime.agent_address.rpartition(":")
        if not colon or not port.isdigit():
            raise AgentUnreachable("The runtime has no address.")
        limits = (URGENT_TIMEOUT, URGENT_DEADLINE, URGENT_PATIENCE)
        return cls(runtime, address, int(port), actor, *limits)

    def listening(self) -> bool:
        """Whether the agent speaks TLS on its port; proves nothing about who it is."""
        try:
            with socket.create_connection((self._address, self._port), timeout=2) as raw:
                raw.settimeout(15)
                with self._context(verified=False).wrap_socket(raw, server_hostname=self._name):
                    return True
        except (OSError, ssl.SSLError):
            return False

    def request_enrolment(self, nonce: str) -> dict[str, Any]:
        """``POST /v1/enrol``: the guest's CSR, sealing key and MAC."""
        return self._call("POST", "/v1/enrol", {"nonce": nonce}, verified=False)

    def install_certificate(self, *, nonce: str, certificate: str, mac: str) -> None:
        """``PUT /v1/enrol/certificate``."""
        body = {"nonce": nonce, "certificate": certificate, "mac": mac}
        self._call("PUT", "/v1/enrol/certificate", body, verified=False)

    def status(self) -> dict[str, Any]:
        """``GET /v1/status``, from a guest whose certificate is ours."""
        return self._call("GET", "/v1/status", None)

    def request_renewal(self) -> str:
        """``POST /v1/certificate/request``: a CSR in PEM."""
        return str(self._call("POST", "/v1/certificate/request", {}).get("csr", ""))

    def renew_certificate(self, certificate: str) -> None:
        """``PUT /v1/certificate``: one in PEM."""
        self._call("PUT", "/v1/certificate", {"certificate": certificate})

    def deliver_keyring(self, document: dict[str, Any], signature: dict[str, Any]) -> dict[str, Any]:
        """``PUT /v1/keyring``: what an owner has signed. The guest decides."""
        return self._call("PUT", "/v1/keyring", {"document": document, "signature": signature})

    def deliver_consents(self, document: dict[str, Any], signature: dict[str, Any]) -> dict[str, Any]:
        """``PUT /v1/consents``: what an owner has signed. The guest decides."""
        return self._call("PUT", "/v1/consents", {"document": document, "signature": signature})

    def deliver_approvers(self, document: dict[str, Any], signatures: list[dict[str, Any]]) -> dict[str, Any]:
        """``PUT /v1/approvers``: signed by a quorum; a guest's first one by an owner. The guest decides."""
        return self._call("PUT", "/v1/approvers", {"document": document, "signatures": signatures})

    def deliver_terms(self, document: dict[str, Any], signature: dict[str, Any]) -> dict[str, Any]:
        """``PUT /v1/terms``: on which terms an owner lets anybody break glass. The guest decides."""
        return self._call("PUT", "/v1/terms", {"document": document, "signature": signature})

    def set_suspended(self, suspended: bool) -> dict[str, Any]:
        """``PUT /v1/suspended``: close every content route and end all sessions, or reopen."""
        return self._call("PUT", "/v1/suspended", {"suspended": suspended})

    def end_sessions(self) -> dict[str, Any]:
        """``DELETE /v1/sessions``."""
        return self._call("DELETE", "/v1/sessions", None)

    def deliver_trust(self, wanted: Trust) -> str:
        """``PUT /v1/trust``: whom of us to believe. The hash of what the guest then believes."""
        return str(self._call("PUT", "/v1/trust", {"trust": asdict(wanted)}).get("trust", ""))[:64]

    def secrets(self) -> dict[str, Any]:
        """``GET /v1/secrets``: the sealing keys, and what the guest holds; names and versions, no values."""
        return self._call("GET", "/v1/secrets", None)

    def deliver_secret(self, *, name: str, version: int, key_id: str, sealed: str) -> dict[str, Any]:
        """``PUT /v1/secrets``: ``sealed`` is a sealed box in base64. The same again changes nothing."""
        body = {"name": name, "version": version, "key_id": key_id, "sealed": sealed}
        return self._call("PUT", "/v1/secrets", body)

    def revoke_secret(self, *, name: str, version: int) -> dict[str, Any]:
        """``POST /v1/secrets/revoke``: the guest forgets it, and refuses that version and older ones."""
        return self._call("POST", "/v1/secrets/revoke", {"name": name, "version": version})

    def export_secret(self, name: str) -> dict[str, Any]:
        """``POST /v1/secrets/export``: name, version, key_id and the sealed box as the guest keeps it now."""
        return self._call("POST", "/v1/secrets/export", {"name": name})

    def rotate_sealing_key(self, key_id: str) -> dict[str, Any]:
        """``POST /v1/sealing-key/rotate``: from that key to a new one. Answers as :meth:`secrets` does."""
        return self._call("POST", "/v1/sealing-key/rotate", {"from": key_id})

    def retire_sealing_key(self, key_id: str) -> dict[str, Any]:
        """``POST /v1/sealing-key/retire``: the guest destroys it. Answers as :meth:`secrets` does."""
        return self._call("POST", "/v1/sealing-key/retire", {"id": key_id})

    def offer_checkpoint(self, request: str) -> dict[str, Any]:
        """``POST /v1/checkpoint``: an add-checkpoint request (C2SP tlog-witness). The guest decides."""
        return self._call("POST", "/v1/checkpoint", {"request": request})

    def deliver_grant(self, grant: Mapping[str, Any]) -> dict[str, Any]:
        """``PUT /v1/grants``: a ticket with its signatures. The guest decides; again is nothing new."""
        return self._call("PUT", "/v1/grants", {"grant": dict(grant)})

    def end_grant(self, ticket: str) -> dict[str, Any]:
        """``POST /v1/grants/end``: for good, also of a ticket that the guest has never seen."""
        return self._call("POST", "/v1/grants/end", {"ticket": ticket})

    def receipts(self, after: int) -> dict[str, Any]:
        """``GET /v1/receipts``: those of the guest's own chain after that number, and its signed head."""
        return self._call("GET", f"/v1/receipts?after={after}", None, most=MAX_RECEIPTS_BYTES)

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        *,
        verified: bool = True,
        most: int = MAX_ANSWER_BYTES,
    ) -> dict[str, Any]:
        """One call; a second one if a kept connection broke and nothing can happen twice.

        Raises:
            AgentUnreachable, AgentRefused.
        """
        content = b"" if body is None else json.dumps(body).encode()
        try:
            return self._recorded(method, path, content, verified=verified, most=most)
        except ConnectionBroke:
            if not verified or not _repeatable(method, path):
                raise
            return self._recorded(method, path, content, verified=verified, most=most)

    def _recorded(
        self, method: str, path: str, content: bytes, *, verified: bool, most: int
    ) -> dict[str, Any]:
        token = self._token(method, path, content)
        about = {"method": method, "path": path.partition("?")[0], "token": token.jti}
        self._record("agent.requested", about)
        try:
            answer = self._send(
                method, path, content, sign(token, token_seed()), verified=verified, most=most
            )
        except (AgentUnreachable, AgentRefused) as error:
            told = str(error.status) if isinstance(error, AgentRefused) else "unreachable"
            self._record("agent.failed", {**about, "outcome": told})
            raise
        self._record("agent.answered", about)
        return answer

    def _token(self, method: str, path: str, content: bytes) -> RuntimeToken:
        return new_runtime_token(
            issuer=CONTROL_PLANE_URI,
            runtime_id=str(self._runtime.pk),
            tenant_id=str(self._runtime.tenant_id),
            actor=f"{self._actor.kind}:{self._actor.id}",
            role="control-plane",
            method=method,
            path=path,
            body=content,
            now=int(time.time()),
        )

    def _record(self, action: str, data: dict[str, str]) -> None:
        # Durable: an intent that a surrounding transaction could still take back would be no intent.
        with transaction.atomic(durable=True):
            record(
                action=action,
                actor=self._actor,
                tenant_id=self._runtime.tenant_id,
                target=("runtime", self._runtime.pk),
                data=data,
            )

    def _send(
        self, method: str, path: str, content: bytes, token: str, *, verified: bool, most: int
    ) -> dict[str, Any]:
        url = f"https://{self._address}:{self._port}{path}"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        # A request that may not happen twice takes no connection that may have died while it was kept.
        kept = verified and _repeatable(method, path)
        clock = Clock()
        try:
            with (
                self._pooled() if kept else self._new_client(verified=verified) as client,
                clock.running(self._time_left(), client.sockets),
                client.stream(
                    method,
                    url,
                    content=content,
                    headers=headers,
                    timeout=self._timeout,
                    extensions={"sni_hostname": self._name, "trace": clock.trace},
                ) as response,
            ):
                return _answer(response, most, clock)
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            raise _broken(error, late=clock.over) from None

    def _time_left(self) -> float:
        """Seconds that the next call may take. Raises AgentUnreachable: none."""
        left = min(self._deadline, self._until - time.monotonic())
        if left <= 0:
            raise _late()
        return left

    @contextmanager
    def _pooled(self) -> Iterator[KeptClient]:
        """This process's client for this runtime, at this address, with the keys of now."""
        known = (fleet_key(FleetKey.Use.CLIENT).pk, authorities())
        name = (os.getpid(), self._name, self._address, self._port, *known)
        yield _POOL.get(name, lambda: self._new_client(verified=True))

    def _new_client(self, *, verified: bool) -> KeptClient:
        limits = httpx.Limits(max_connections=4, keepalive_expiry=KEPT_SECONDS)
        return KeptClient(
            verify=self._context(verified=verified), timeout=TIMEOUT, limits=limits, trust_env=False
        )

    def _context(self, *, verified: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if verified:
            context.load_verify_locations(cadata=authorities())
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        with _client_certificate() as path:
            context.load_cert_chain(path)
        return context


def _late() -> AgentUnreachable:
    return AgentUnreachable("The guest's agent takes too long to answer.")


def _broken(error: Exception, *, late: bool) -> AgentUnreachable:
    """What is wrong with a connection. A late one is not tried again: the next would be as slow."""
    if late:
        return _late()
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        return ConnectionBroke(f"The connection to the agent broke ({type(error).__name__}).")
    return AgentUnreachable(f"No answer from the guest's agent ({type(error).__name__}).")


def _answer(response: httpx.Response, most: int, clock: Clock) -> dict[str, Any]:
    content = b""
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > most:
            raise AgentUnreachable("The guest's answer is too long.")
    if clock.over:  # what was read may be cut short
        raise _late()
    document: Any = None
    if content:
        try:
            document = httpx.Response(200, content=content).json()
        except (ValueError, RecursionError):  # a guest may nest as deep as it likes
            raise AgentUnreachable("The guest's answer is not JSON.") from None
    if response.is_success:
        return document if isinstance(document, dict) else {}
    code = document.get("error") if isinstance(document, dict) else None
    # A code ends up in messages and rows; a guest gone bad gets no free text into them.
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        code = "unknown"
    raise AgentRefused(response.status_code, code)


def _repeatable(method: str, path: str) -> bool:
    return method in _IDEMPOTENT or (method == "POST" and path in _REPEATABLE)


@contextmanager
def _client_certificate() -> Iterator[str]:
    """A path from which OpenSSL can load the client's key: memory only, because `ssl` takes no bytes."""
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, private_pem(fleet_key(FleetKey.Use.CLIENT)))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
