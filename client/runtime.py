"""A tenant's guest, through the portal's proxy: every request carries a proof by the device key."""

import json
import re
import uuid
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from client.device import Device
from client.errors import Failure, Refused, WrongAnswer
from client.reading import take
from client.wire import SLOW, Sink, Wire, as_json
from protocol.persons import Purpose
from protocol.sessions import PROOF_HEADER, SESSION_HEADER, Request, prove

ROUTE_COOKIE = "__Host-route"
_NONCE = re.compile(r"[0-9a-f]{64}")
_SESSION = re.compile(r"[A-Za-z0-9_-]{16,200}")
_REASONS = {
    "not_a_member": "The guest does not know this device's key. An owner has to add it to the keyring.",
    "suspended": "Access to this runtime is closed. An owner or the operator can reopen it.",
    "session_required": "The guest has ended this session.",
    "bad_signature": "The guest does not take this device's signature.",
}


class Runtime:
    """A session in the guest. Begun on entry and ended after."""

    def __init__(self, wire: Wire, device: Device, ticket_path: str) -> None:
        """``ticket_path``: from :meth:`client.portal.Portal.enter`."""
        self._wire, self._device, self._ticket_path = wire, device, ticket_path
        self._session = ""
        self._counter = 0

    def __enter__(self) -> Self:
        try:
            self._pass_the_proxy()
            self._sign_in()
        except BaseException:
            self._wire.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if kind is not KeyboardInterrupt:
                self._ask("DELETE", "/v1/session", 204)
        except Failure:
            pass
        finally:
            self._wire.close()

    def get(self, path: str) -> Any:
        """The document at ``path``. Raises Refused, WrongAnswer."""
        return self._ask("GET", path, 200)

    def post(self, path: str) -> Any:
        """The same, for a request that changes something."""
        return self._ask("POST", path, 200)

    def send(self, method: str, path: str, document: Any = None, *, slow: bool = False) -> Any:
        """A request with a JSON body, or none; any success. ``slow``: wait for minutes.

        Raises:
            Refused, WrongAnswer.
        """
        content = b"" if document is None else json.dumps(document).encode()
        sent = {} if document is None else {"Content-Type": "application/json"}
        headers = sent | self._proof(Request.of(method, path, content))
        return self._translated(method, path, headers, content, 200, 201, 202, 204, slow=slow)

    def upload(self, path: str, sha256: str, size: int, pieces: Iterable[bytes]) -> None:
        """Stream a file that has this hash and size. Raises Refused, WrongAnswer."""
        headers = self._proof(Request("PUT", path, sha256))
        headers |= {"X-Content-SHA256": sha256, "Content-Length": str(size)}
        self._translated("PUT", path, headers, pieces, 200, 201)

    def download(self, path: str, sink: Sink, more: dict[str, str] | None = None) -> None:
        """Stream a body to ``sink``. Raises Refused, WrongAnswer."""
        headers = self._proof(Request.of("GET", path)) | (more or {})
        answer = self._wire.ask("GET", path, headers=headers, sink=sink)
        answer.expect(200, 206)

    def _proof(self, request: Request) -> dict[str, str]:
        self._counter += 1
        proof = prove(self._device.seed, self._session, request, self._counter)
        return {SESSION_HEADER: self._session, PROOF_HEADER: proof}

    def _pass_the_proxy(self) -> None:
        answer = self._wire.ask("GET", self._ticket_path)
        if answer.status >= 400:
            answer.expect(200)
        if self._wire.cookies.get(ROUTE_COOKIE) is None:
            raise WrongAnswer("The portal did not open the way to the runtime.")

    def _sign_in(self) -> None:
        asked = self._translated("POST", "/v1/sessions/challenge", {}, b"")
        document = {"nonce": take(asked, "nonce", str), "runtime_id": take(asked, "runtime_id", str)}
        if not _NONCE.fullmatch(document["nonce"]) or not _is_uuid(document["runtime_id"]):
            raise WrongAnswer("The guest asks for a signature over something that is no challenge.")
        signature = {**self._device.sign(Purpose.SESSION, document), "nonce": document["nonce"]}
        sent = as_json({"signature": signature})
        name = take(
            self._translated("POST", "/v1/sessions", sent["headers"], sent["content"]), "session", str
        )
        # It goes into a header.
        if not _SESSION.fullmatch(name):
            raise WrongAnswer("The guest began a session without a proper name.")
        self._session = name

    def _ask(self, method: str, path: str, status: int) -> Any:
        return self._translated(method, path, self._proof(Request.of(method, path)), b"", status)

    def _translated(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        content: bytes | Iterable[bytes],
        *statuses: int,
        slow: bool = False,
    ) -> Any:
        timeout = SLOW if slow else None
        answer = self._wire.ask(method, path, content=content, headers=headers, timeout=timeout)
        try:
            answer.expect(*statuses or (200,))
        except Refused as error:
            raise Refused(error.status, error.code, _REASONS.get(error.code, str(error))) from None
        return None if answer.status == 204 else answer.json()


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
