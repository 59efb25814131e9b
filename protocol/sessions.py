"""What a device key signs with each request of its session in a guest (docs/adr/0008)."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from protocol.persons import Purpose, sign_with_device_key

SESSION_HEADER = "Portal-Session"
PROOF_HEADER = "Portal-Proof"
"""``<counter>.<signature>``: decimal digits, a full stop, base64url."""


@dataclass(frozen=True)
class Request:
    """What a proof is about."""

    method: str
    path: str
    """With the query, as sent."""
    body_sha256: str

    @classmethod
    def of(cls, method: str, path: str, body: bytes = b"") -> Self:
        """The request that carries ``body``."""
        return cls(method, path, sha256(body).hexdigest())


def request_document(name: str, request: Request, counter: int) -> dict[str, Any]:
    """What a device key signs, for ``Purpose.REQUEST``, with each request. ``name``: the session's."""
    return {
        "session": name,
        "method": request.method,
        "path": request.path,
        "body": request.body_sha256,
        "counter": counter,
    }


def prove(seed: bytes, name: str, request: Request, counter: int) -> str:
    """The header's value for one request; ``counter`` is higher than any that this session has used."""
    document = request_document(name, request, counter)
    return f"{counter}.{sign_with_device_key(seed, Purpose.REQUEST, document)['signature']}"
