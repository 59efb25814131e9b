"""Member sessions: begun by a signature over this guest's own nonce, kept in memory, gone with a restart.

A passkey's session is a cookie that only this guest's own origin gets. It can be read by whoever carries it.

A device key's session is worth nothing without the key: each request carries a signature of its own, over
method, path, body and a rising counter (docs/adr/0008-member-request-proof.md). So whoever reads a session's
name off the wire, the control plane included, cannot use it.
"""

import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from guest.agent.members import Members
from protocol.keyrings import Member
from protocol.persons import Purpose, SignatureError, Site, verify
from protocol.sessions import Request as Request
from protocol.sessions import request_document as request_document

LIFETIME_SECONDS = 8 * 3600
IDLE_SECONDS = 30 * 60
NONCE_SECONDS = 120
MAX_NONCES = 64
MAX_SESSIONS = 64
_PROOF = re.compile(r"([0-9]{1,15})\.([A-Za-z0-9_-]{1,200})")


class SessionRefused(Exception):
    """No session, or not this request's. ``code`` is for machines."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Session:
    """One member's, since ``began`` (monotonic seconds)."""

    name: str
    member: Member
    began: float
    used: float
    counter: int = 0


class Sessions:
    """All sessions of this guest. Times are monotonic seconds, so that no clock can lengthen one."""

    def __init__(self, members: Members, runtime_id: str, site: Site | None) -> None:
        self._members, self._runtime_id, self._site = members, runtime_id, site
        self._nonces: dict[str, float] = {}
        self._sessions: dict[str, Session] = {}

    def challenge(self, now: float) -> dict[str, Any]:
        """The document to sign for ``Purpose.SESSION``. Its nonce is good once, for two minutes."""
        self._nonces = {n: until for n, until in self._nonces.items() if until > now}
        while len(self._nonces) >= MAX_NONCES:
            self._nonces.pop(next(iter(self._nonces)))
        nonce = secrets.token_hex(32)
        self._nonces[nonce] = now + NONCE_SECONDS
        return self._document(nonce)

    def begin(self, nonce: str, signature: Mapping[str, Any], now: float) -> Session:
        """A session for the member who signed the challenge.

        Raises:
            SessionRefused: ``nonce_unknown``, ``no_keyring``, ``not_a_member`` or ``bad_signature``.
        """
        if self._nonces.pop(nonce, 0.0) <= now:
            raise SessionRefused("nonce_unknown")
        member = self._signer(signature, self._document(nonce))
        if len(self._sessions) >= MAX_SESSIONS:
            oldest = min(self._sessions.values(), key=lambda session: session.used)
            del self._sessions[oldest.name]
        session = Session(secrets.token_urlsafe(32), member, now, now)
        self._sessions[session.name] = session
        return session

    def check(self, name: str, proof: str, request: Request, now: float) -> Session:
        """The device key's session that this request belongs to.

        Raises:
            SessionRefused: ``session_required`` or ``proof_invalid``.
        """
        session = self._found(name, "device", now)
        _check_proof(session, proof, request)
        session.used = now
        return session

    def check_cookie(self, name: str, now: float) -> Session:
        """The passkey's session that a browser's cookie names. Whose page asks is the caller's matter.

        Raises:
            SessionRefused: ``session_required``.
        """
        session = self._found(name, "passkey", now)
        session.used = now
        return session

    def listed(self, now: float) -> list[Session]:
        """Those that live, the newest first."""
        return sorted(
            (each for each in self._sessions.values() if self._alive(each, now)),
            key=lambda each: each.began,
            reverse=True,
        )

    def lives(self, session: Session, now: float) -> bool:
        """Whether ``session`` is one of those that live."""
        return self._sessions.get(session.name) is session and self._alive(session, now)

    def end(self, name: str) -> None:
        """End one session."""
        self._sessions.pop(name, None)

    def end_others(self, kept: Session) -> int:
        """End every session but one, and what has begun to become one; tells how many there were."""
        count = len(self._sessions) - 1
        self._sessions = {kept.name: kept}
        self._nonces.clear()
        return count

    def end_all(self) -> int:
        """End every session; tells how many there were."""
        count = len(self._sessions)
        self._sessions.clear()
        self._nonces.clear()
        return count

    def _signer(self, signature: Mapping[str, Any], document: Mapping[str, Any]) -> Member:
        """Whose signature it is. A browser does not know its passkey's public key, so it may name none."""
        by = signature.get("by")
        if by is None and signature.get("kind") == "passkey":
            candidates = self._members.passkeys()
        else:
            member = self._members.member(by) if isinstance(by, str) else None
            candidates = [] if member is None else [member]
        if not candidates:
            raise SessionRefused("not_a_member" if self._members.keyring else "no_keyring")
        for member in candidates:  # at most as many as a keyring holds
            with suppress(SignatureError):
                verify(member.key, signature, Purpose.SESSION, document, self._site)
                return member
        raise SessionRefused("bad_signature")

    def _found(self, name: str, kind: str, now: float) -> Session:
        session = self._sessions.get(name)
        if session is None or not self._alive(session, now):
            self._sessions.pop(name, None)
            raise SessionRefused("session_required")
        if session.member.key.kind != kind:
            raise SessionRefused("session_required")
        return session

    def _alive(self, session: Session, now: float) -> bool:
        # The key may have left the keyring, or its role changed, since the session began.
        return (
            now - session.began < LIFETIME_SECONDS
            and now - session.used < IDLE_SECONDS
            and self._members.member(session.member.key.fingerprint) == session.member
        )

    def _document(self, nonce: str) -> dict[str, Any]:
        return {"nonce": nonce, "runtime_id": self._runtime_id}


def _check_proof(session: Session, proof: str, request: Request) -> None:
    parts = _PROOF.fullmatch(proof)
    if parts is None or int(parts[1]) <= session.counter:
        raise SessionRefused("proof_invalid")
    document = request_document(session.name, request, int(parts[1]))
    try:
        verify(session.member.key, {"kind": "device", "signature": parts[2]}, Purpose.REQUEST, document)
    except SignatureError:
        raise SessionRefused("proof_invalid") from None
    session.counter = int(parts[1])
