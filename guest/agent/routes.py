"""The agent's handlers. Who may call which is declared in :mod:`guest.agent.gate`."""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from cryptography import x509

from guest.agent.answers import BadRequest, hexadecimal, json_fields, json_flag, json_objects
from guest.agent.config import Config
from guest.agent.enrolment import Enrolment
from guest.agent.gate import ACCESS, SESSION_HEADER, Gate
from guest.agent.sessions import LIFETIME_SECONDS
from guest.agent.status import status
from guest.agent.workspace import listing
from protocol.enrolment import NONCE_BYTES

MAC_BYTES = 32
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """Handlers, bound to this guest."""

    def __init__(self, config: Config, enrolment: Enrolment, gate: Gate) -> None:
        self._config, self._enrolment, self._gate = config, enrolment, gate

    def routes(self) -> list[web.RouteDef]:
        """One handler for each route of the table, and none beside."""
        handlers: dict[tuple[str, str], Handler] = {
            ("GET", "/v1/health"): self.health,
            ("GET", "/v1/status"): self.status,
            ("POST", "/v1/enrol"): self.enrol,
            ("PUT", "/v1/enrol/certificate"): self.install_certificate,
            ("POST", "/v1/certificate/request"): self.renewal_request,
            ("PUT", "/v1/certificate"): self.renew_certificate,
            ("PUT", "/v1/keyring"): self.take_keyring,
            ("PUT", "/v1/consents"): self.take_consents,
            ("PUT", "/v1/suspended"): self.suspend,
            ("DELETE", "/v1/sessions"): self.end_sessions,
            ("POST", "/v1/sessions/challenge"): self.challenge,
            ("POST", "/v1/sessions"): self.begin_session,
            ("DELETE", "/v1/session"): self.end_session,
            ("GET", "/v1/workspace"): self.workspace,
        }
        if handlers.keys() != ACCESS.keys():
            raise RuntimeError("a route is missing from the table of access, or has no handler")
        return [web.route(method, path, handler) for (method, path), handler in handlers.items()]

    async def health(self, _request: web.Request) -> web.Response:
        enrolled = self._enrolment.certificate is not None
        return web.json_response({"status": "live", "enrolled": enrolled})

    async def status(self, _request: web.Request) -> web.Response:
        ledger = self._gate.ledger
        told = {"clock_right": ledger.clock_is_right(int(time.time())), "clock_high": ledger.high}
        said = status(self._config, self._enrolment)
        return web.json_response(said | told | self._gate.members.statement())

    async def enrol(self, request: web.Request) -> web.Response:
        (nonce,) = await json_fields(request, "nonce")
        return web.json_response(self._enrolment.request(hexadecimal("nonce", nonce, NONCE_BYTES)))

    async def install_certificate(self, request: web.Request) -> web.Response:
        nonce, pem, mac = await json_fields(request, "nonce", "certificate", "mac")
        self._enrolment.install(
            hexadecimal("nonce", nonce, NONCE_BYTES), _certificate(pem), hexadecimal("mac", mac, MAC_BYTES)
        )
        return web.Response(status=204)

    async def renewal_request(self, _request: web.Request) -> web.Response:
        return web.json_response({"csr": self._enrolment.renewal_request()})

    async def renew_certificate(self, request: web.Request) -> web.Response:
        (pem,) = await json_fields(request, "certificate")
        self._enrolment.renew(_certificate(pem))
        return web.Response(status=204)

    async def take_keyring(self, request: web.Request) -> web.Response:
        document, signature = await json_objects(request, "document", "signature")
        keyring = self._gate.members.take_keyring(document, signature)
        return web.json_response({"version": keyring.version, "hash": keyring.hash})

    async def take_consents(self, request: web.Request) -> web.Response:
        document, signature = await json_objects(request, "document", "signature")
        consents = self._gate.members.take_consents(document, signature)
        return web.json_response({"version": consents.version})

    async def suspend(self, request: web.Request) -> web.Response:
        suspended = await json_flag(request, "suspended")
        self._gate.members.suspend(suspended)
        ended = self._gate.sessions.end_all() if suspended else 0
        return web.json_response({"suspended": suspended, "ended": ended})

    async def end_sessions(self, _request: web.Request) -> web.Response:
        return web.json_response({"ended": self._gate.sessions.end_all()})

    async def challenge(self, _request: web.Request) -> web.Response:
        return web.json_response(self._gate.sessions.challenge(time.monotonic()))

    async def begin_session(self, request: web.Request) -> web.Response:
        nonce, signature = await _nonce_and_signature(request)
        session = self._gate.sessions.begin(nonce, signature, time.monotonic())
        return web.json_response({"session": session.name, "seconds": LIFETIME_SECONDS})

    async def end_session(self, request: web.Request) -> web.Response:
        self._gate.sessions.end(request.headers[SESSION_HEADER])
        return web.Response(status=204)

    async def workspace(self, _request: web.Request) -> web.Response:
        return web.json_response(listing(self._config.workspace))


async def _nonce_and_signature(request: web.Request) -> tuple[str, dict[str, object]]:
    (signature,) = await json_objects(request, "signature")
    nonce = signature.pop("nonce", None)
    if not isinstance(nonce, str):
        raise BadRequest("signature.nonce must be the challenge's nonce")
    return nonce, signature


def _certificate(pem: str) -> x509.Certificate:
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        certificates = []
    if len(certificates) != 1:
        raise BadRequest("certificate must be one certificate in PEM")
    return certificates[0]
