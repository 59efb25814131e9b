"""The agent's handlers. Who may call which is declared in :mod:`guest.agent.gate`."""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from cryptography import x509

from guest.agent.answers import BadRequest, hexadecimal, json_fields, json_flag, json_objects, json_signed
from guest.agent.breakglass.exec import Commands, Exec
from guest.agent.breakglass.files import Files
from guest.agent.breakglass.logs import Logs
from guest.agent.breakglass.members import MembersBreakGlass
from guest.agent.breakglass.routes import BreakGlassRoutes
from guest.agent.breakglass.status import Standing
from guest.agent.config import Config
from guest.agent.content import Content
from guest.agent.enrolment import Enrolment
from guest.agent.gate import ACCESS, COOKIE, SESSION, Gate
from guest.agent.gateway.routes import GatewayRoutes
from guest.agent.jobs.routes import Jobs
from guest.agent.jobs.runner import Runner
from guest.agent.pages import Pages
from guest.agent.sessions import IDLE_SECONDS, LIFETIME_SECONDS, Session, SessionRefused
from guest.agent.status import status
from guest.agent.vault import Vault
from guest.agent.vault_routes import VaultRoutes
from guest.agent.witness import Witness
from guest.agent.witness_routes import WitnessRoutes
from guest.agent.workspace import Workspace
from protocol.enrolment import NONCE_BYTES
from protocol.tokens import body_hash

MAC_BYTES = 32
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """Handlers, bound to this guest."""

    def __init__(
        self,
        config: Config,
        enrolment: Enrolment,
        gate: Gate,
        vault: Vault,
        witness: Witness,
        gateway: GatewayRoutes,
        runner: Runner,
        commands: Commands,
    ) -> None:
        self._config, self._enrolment, self._gate = config, enrolment, gate
        self._vault, self._witness, self._gateway = vault, witness, gateway
        papers = config.personalisation
        self._pages = Pages(papers.rp_id, papers.portal_origin)
        workspace = Workspace(config.workspace, config.limits)
        self._content = Content(workspace, lambda request, _: gate.check_standing(request), config.patience)
        self._jobs = Jobs(runner, gate)
        self._break_glass = gate.guard.access
        self._under_tickets = {
            **Files(workspace, config.patience).handlers(),
            **Logs(commands.launcher, runner).handlers(),
            **Exec(commands).handlers(),
            **Standing(self.status).handlers(),
        }

    def routes(self) -> list[web.RouteDef]:
        """One handler for each route of the table, and none beside."""
        handlers: dict[tuple[str, str], Handler] = {
            ("GET", "/v1/health"): self.health,
            ("GET", "/v1/status"): self.status,
            ("POST", "/v1/enrol"): self.enrol,
            ("PUT", "/v1/enrol/certificate"): self.install_certificate,
            ("POST", "/v1/certificate/request"): self.renewal_request,
            ("PUT", "/v1/certificate"): self.renew_certificate,
            ("PUT", "/v1/trust"): self.take_trust,
            ("PUT", "/v1/keyring"): self.take_keyring,
            ("PUT", "/v1/consents"): self.take_consents,
            ("PUT", "/v1/approvers"): self.take_approvers,
            ("PUT", "/v1/recovery"): self.begin_recovery,
            ("POST", "/v1/recovery/finish"): self.finish_recovery,
            ("PUT", "/v1/suspended"): self.suspend,
            ("DELETE", "/v1/sessions"): self.end_sessions,
            ("GET", "/"): self._pages.serve,
            ("GET", "/page.js"): self._pages.serve,
            ("GET", "/jobs.js"): self._pages.serve,
            ("GET", "/gateway.js"): self._pages.serve,
            ("GET", "/witness.js"): self._pages.serve,
            ("GET", "/page.css"): self._pages.serve,
            ("GET", "/break-glass"): self._pages.serve,
            ("GET", "/break-glass.js"): self._pages.serve,
            ("GET", "/break-glass.css"): self._pages.serve,
            ("GET", "/v1/door"): self.door,
            ("POST", "/v1/sessions/challenge"): self.challenge,
            ("POST", "/v1/sessions"): self.begin_session,
            ("GET", "/v1/outside"): self.outside,
            ("GET", "/v1/session"): self.session,
            ("DELETE", "/v1/session"): self.end_session,
            ("GET", "/v1/sessions"): self.sessions,
            ("POST", "/v1/sessions/end"): self.end_other_sessions,
            ("GET", "/v1/members"): self.members,
            ("POST", "/v1/recovery/object"): self.object_to_recovery,
            **VaultRoutes(self._vault).handlers(),
            **WitnessRoutes(self._witness, self._gate.ledger).handlers(),
            **self._content.handlers(),
            **self._gateway.handlers(),
            **self._jobs.handlers(),
            **BreakGlassRoutes(self._break_glass).handlers(),
            **MembersBreakGlass(self._break_glass, self._gate.recovery).handlers(),
            **self._under_tickets,
        }
        if handlers.keys() != ACCESS.keys():
            raise RuntimeError("a route is missing from the table of access, or has no handler")
        return [
            # aiohttp would serve HEAD beside each GET: a route that no table knows.
            web.route(
                method,
                path.replace("{tail}", "{tail:.*}"),
                handler,
                **({"allow_head": False} if method == "GET" else {}),
            )
            for (method, path), handler in handlers.items()
        ]

    async def health(self, _request: web.Request) -> web.Response:
        enrolled = self._enrolment.certificate is not None
        return web.json_response({"status": "live", "enrolled": enrolled})

    async def status(self, _request: web.Request) -> web.Response:
        ledger = self._gate.ledger
        told = {"clock_right": ledger.clock_is_right(int(time.time())), "clock_high": ledger.high}
        said = status(self._config, self._enrolment, self._vault)
        more = {
            "trust": self._gate.trust.now.trust.hash,
            "gateway": self._gateway.gateway.statement(),
            "jobs": self._jobs.statement(),
            "witness": self._witness.statement(),
        }
        gate = self._gate
        people = gate.members.statement() | gate.recovery.statement() | self._break_glass.statement()
        return web.json_response(said | told | more | people)

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

    async def take_trust(self, request: web.Request) -> web.Response:
        (document,) = await json_objects(request, "trust")
        return web.json_response({"trust": self._gate.trust.take(document).trust.hash})

    async def take_keyring(self, request: web.Request) -> web.Response:
        document, signature = await json_objects(request, "document", "signature")
        keyring = self._gate.members.take_keyring(document, signature)
        self._break_glass.changed()
        return web.json_response({"version": keyring.version, "hash": keyring.hash})

    async def take_consents(self, request: web.Request) -> web.Response:
        document, signature = await json_objects(request, "document", "signature")
        consents = self._gate.members.take_consents(document, signature)
        return web.json_response({"version": consents.version})

    async def take_approvers(self, request: web.Request) -> web.Response:
        document, signatures = await json_signed(request, "document")
        found = self._gate.recovery.take_approvers(document, signatures)
        self._break_glass.changed()
        return web.json_response({"version": found.version, "hash": found.hash})

    async def begin_recovery(self, request: web.Request) -> web.Response:
        document, signatures = await json_signed(request, "keyring")
        pending = self._gate.recovery.begin(document, signatures, int(time.time()))
        return web.json_response({"keyring": pending.keyring.hash, "due": pending.due})

    async def finish_recovery(self, _request: web.Request) -> web.Response:
        keyring = self._gate.recovery.finish(int(time.time()))
        self._break_glass.changed()
        return web.json_response({"version": keyring.version, "hash": keyring.hash})

    async def object_to_recovery(self, _request: web.Request) -> web.Response:
        return web.json_response({"ended": self._gate.recovery.object()})

    async def suspend(self, request: web.Request) -> web.Response:
        suspended = await json_flag(request, "suspended")
        self._gate.members.suspend(suspended)
        # Before what a full disk can refuse.
        ended = self._gate.sessions.end_all() if suspended else 0
        self._break_glass.changed()
        return web.json_response({"suspended": suspended, "ended": ended})

    async def end_sessions(self, _request: web.Request) -> web.Response:
        return web.json_response({"ended": self._gate.sessions.end_all()})

    async def challenge(self, _request: web.Request) -> web.Response:
        return web.json_response(self._gate.sessions.challenge(time.monotonic()))

    async def begin_session(self, request: web.Request) -> web.Response:
        nonce, signature = await _nonce_and_signature(request)
        session = self._gate.sessions.begin(nonce, signature, time.monotonic())
        if session.member.key.kind == "device":
            return web.json_response({"session": session.name, "seconds": LIFETIME_SECONDS})
        # Not in the answer: no script, not even ours, gets to read it.
        response = web.json_response({"seconds": LIFETIME_SECONDS})
        response.set_cookie(COOKIE, session.name, path="/", secure=True, httponly=True, samesite="Strict")
        return response

    async def door(self, request: web.Request) -> web.Response:
        """What the page must know before anybody has signed in."""
        try:
            self._gate.session(request, body_hash(b""))
            signed_in = True
        except SessionRefused:
            signed_in = False
        return web.json_response({"signed_in": signed_in})

    async def outside(self, _request: web.Request) -> web.Response:
        """The way out of the machine: where its proxy listens, or that there is none."""
        return web.json_response({"proxy": self._config.personalisation.proxy})

    async def session(self, request: web.Request) -> web.Response:
        session, now = _session(request), time.monotonic()
        left = min(session.began + LIFETIME_SECONDS, session.used + IDLE_SECONDS) - now
        return web.json_response(self._described(session) | {"seconds_left": int(left)})

    async def sessions(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        found = [
            self._described(each)
            | {"began_seconds_ago": int(now - each.began), "own": each is _session(request)}
            for each in self._gate.sessions.listed(now)
        ]
        return web.json_response({"sessions": found})

    async def end_session(self, request: web.Request) -> web.Response:
        self._gate.sessions.end(_session(request).name)
        response = web.Response(status=204)
        response.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
        return response

    async def end_other_sessions(self, request: web.Request) -> web.Response:
        return web.json_response({"ended": self._gate.sessions.end_others(_session(request))})

    async def members(self, _request: web.Request) -> web.Response:
        said = self._gate.members.statement()
        keyring = said["keyring"]
        if keyring is not None:
            keyring = {
                "version": keyring["version"],
                "hash": keyring["hash"],
                "members": self._gate.members.described(),
                "recovery": keyring["recovery"],
            }
        sealing = self._vault.sealing_public.hex()
        return web.json_response(
            {
                "keyring": keyring,
                "consents": said["consents"],
                "sealing_public_key": sealing,
                **self._gate.recovery.statement(),
            }
        )

    def _described(self, session: Session) -> dict[str, str]:
        member = session.member
        return {
            "name": self._gate.members.name_of(member),
            "role": member.role,
            "kind": member.key.kind,
            "fingerprint": member.key.fingerprint,
        }


def _session(request: web.Request) -> Session:
    session = request[SESSION]
    if not isinstance(session, Session):
        raise TypeError("the gate left no session")
    return session


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
