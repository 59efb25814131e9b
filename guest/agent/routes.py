"""The agent's control routes. None returns or runs tenant content (DESIGN §1)."""

from aiohttp import web
from cryptography import x509

from guest.agent.answers import BadRequest, hexadecimal, json_fields
from guest.agent.config import Config
from guest.agent.enrolment import Enrolment
from guest.agent.status import status
from protocol.enrolment import NONCE_BYTES

MAC_BYTES = 32


class ControlRoutes:
    """Handlers, bound to this guest's enrolment."""

    def __init__(self, config: Config, enrolment: Enrolment) -> None:
        self._config = config
        self._enrolment = enrolment

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/health", self.health, allow_head=False),
            web.get("/v1/status", self.status, allow_head=False),
            web.post("/v1/enrol", self.enrol),
            web.put("/v1/enrol/certificate", self.install_certificate),
        ]

    async def health(self, _request: web.Request) -> web.Response:
        enrolled = self._enrolment.certificate is not None
        return web.json_response({"status": "live", "enrolled": enrolled})

    async def status(self, _request: web.Request) -> web.Response:
        return web.json_response(status(self._config, self._enrolment))

    async def enrol(self, request: web.Request) -> web.Response:
        (nonce,) = await json_fields(request, "nonce")
        return web.json_response(self._enrolment.request(hexadecimal("nonce", nonce, NONCE_BYTES)))

    async def install_certificate(self, request: web.Request) -> web.Response:
        nonce, pem, mac = await json_fields(request, "nonce", "certificate", "mac")
        self._enrolment.install(
            hexadecimal("nonce", nonce, NONCE_BYTES), _certificate(pem), hexadecimal("mac", mac, MAC_BYTES)
        )
        return web.Response(status=204)


def _certificate(pem: str) -> x509.Certificate:
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        certificates = []
    if len(certificates) != 1:
        raise BadRequest("certificate must be one certificate in PEM")
    return certificates[0]
