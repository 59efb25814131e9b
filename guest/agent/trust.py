"""Whom of the control plane this guest believes: as told at its start, and since then over its own door.

The later of the two holds, so neither an old disk nor old papers bring a retired key back while the newer of
them is there. Changes work at once: new connections, open ones and tokens are judged by the present trust.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from cryptography import x509

from guest.agent.files import read_optional, write_atomically
from protocol.canonical import canonical
from protocol.enrolment import EnrolmentError, Trust

TRUST_FILE = "trust.json"


class TrustRefused(Exception):
    """A trust that is not taken. ``code`` is for machines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Believed:
    """A trust, with its texts read."""

    trust: Trust
    authorities: tuple[x509.Certificate, ...]
    """The fleet's CA certificates, newest first."""
    token_keys: tuple[bytes, ...]
    route_keys: tuple[bytes, ...]
    revoked: frozenset[int]
    """Serial numbers of client certificates."""

    @classmethod
    def of(cls, trust: Trust) -> Self:
        """Read ``trust``.

        Raises:
            TrustRefused: ``malformed``; or it would lock everybody out.
        """
        try:
            believed = cls(
                trust,
                tuple(x509.load_pem_x509_certificate(pem.encode()) for pem in trust.ca_certificates),
                _keys(trust.token_keys),
                _keys(trust.route_keys),
                frozenset(int(serial, 16) for serial in trust.revoked_serials),
            )
        except (ValueError, TypeError, AttributeError):
            raise TrustRefused("malformed", "a certificate, key or serial number cannot be read") from None
        if not believed.authorities or not believed.token_keys:
            raise TrustRefused("malformed", "it names no CA or no token key, so nobody could ever be let in")
        return believed


class TrustStore:
    """The trust in force. ``now`` is read by the doors and the gate with each connection and request."""

    def __init__(self, folder: Path, given: Believed) -> None:
        """``given``: from this start's personalisation. A damaged file of before is left aside."""
        self._path = folder / TRUST_FILE
        stored = _stored(self._path)
        newer = stored is not None and stored.trust.issued_at > given.trust.issued_at
        self.now = stored if stored is not None and newer else given
        self.changed: Callable[[], None] = lambda: None
        """Called after a change."""

    def take(self, document: object) -> Believed:
        """Believe ``document`` from now on.

        Raises:
            TrustRefused: ``malformed`` or ``rolled_back``.
        """
        try:
            believed = Believed.of(Trust.parse(document))
        except EnrolmentError as error:
            raise TrustRefused("malformed", str(error)) from None
        if believed.trust.issued_at < self.now.trust.issued_at:
            raise TrustRefused("rolled_back", "a later one is in force")
        write_atomically(self._path, canonical(asdict(believed.trust)))
        self.now = believed
        self.changed()
        return believed


def _stored(path: Path) -> Believed | None:
    content = read_optional(path)
    if content is None:
        return None
    try:
        return Believed.of(Trust.parse(json.loads(content)))
    except (ValueError, TrustRefused):
        return None


def _keys(texts: list[str]) -> tuple[bytes, ...]:
    keys = tuple(bytes.fromhex(text) for text in texts)
    if any(len(key) != 32 for key in keys):
        raise ValueError("not an Ed25519 key")
    return keys
