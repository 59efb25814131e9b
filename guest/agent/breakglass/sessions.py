"""Operators' sessions: begun by the requester's passkey over the guest's own nonce, gone with a restart.

One for each ticket; a new one ends the one before. So a portal that rides on a granted ticket still lacks the
operator's passkey, and a guest that starts anew wants the operator again.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guest.agent.breakglass.refusals import BreakGlassRefused
from protocol.persons import Purpose, SignatureError, Site, verify
from protocol.tickets import Ticket, session_document

IDLE_SECONDS = 30 * 60
NONCE_SECONDS = 120
MAX_NONCES = 16


@dataclass
class OperatorSession:
    """Of one ticket; ``used`` last at these monotonic seconds."""

    name: str
    ticket: str
    used: float


class OperatorSessions:
    """All of this guest. Times are monotonic seconds."""

    def __init__(self, site: Site | None) -> None:
        """``site``: this guest's own origin alone."""
        self._site = site
        self._nonces: dict[str, tuple[str, float]] = {}
        self._sessions: dict[str, OperatorSession] = {}

    def challenge(self, ticket: Ticket, now: float) -> dict[str, Any]:
        """What to sign for ``Purpose.ACCESS``. Its nonce is good once, for this ticket, for two minutes."""
        self._nonces = {name: kept for name, kept in self._nonces.items() if kept[1] > now}
        while len(self._nonces) >= MAX_NONCES:
            self._nonces.pop(next(iter(self._nonces)))
        nonce = secrets.token_hex(32)
        self._nonces[nonce] = ticket.ticket, now + NONCE_SECONDS
        return session_document(nonce, ticket)

    def proven(self, ticket: Ticket, nonce: str, signature: Mapping[str, Any], now: float) -> OperatorSession:
        """A session for the requester, who signed the challenge. It counts once it is kept.

        Raises:
            BreakGlassRefused: ``nonce_unknown`` or ``bad_signature``.
        """
        asked, until = self._nonces.pop(nonce, ("", 0.0))
        if asked != ticket.ticket or until <= now:
            raise BreakGlassRefused(403, "nonce_unknown", "ask for a new challenge and sign that")
        try:
            # A browser does not know its public key, so ``by`` need not be there: the ticket names the key.
            verify(
                ticket.requester.key, signature, Purpose.ACCESS, session_document(nonce, ticket), self._site
            )
        except SignatureError as error:
            raise BreakGlassRefused(403, "bad_signature", f"the requester's passkey: {error}") from None
        return OperatorSession(secrets.token_urlsafe(32), ticket.ticket, now)

    def keep(self, session: OperatorSession) -> None:
        """From now on this is the ticket's session."""
        self._sessions[session.ticket] = session

    def find(self, ticket: str, name: str, now: float) -> OperatorSession:
        """The session that a cookie names.

        Raises:
            BreakGlassRefused: ``session_required``: there is none, or it is another's.
        """
        session = self._sessions.get(ticket)
        if (
            session is None
            or not self.lives(session, now)
            or not secrets.compare_digest(session.name.encode(), name.encode(errors="replace"))
        ):
            raise BreakGlassRefused(403, "session_required", "begin a session with the requester's passkey")
        session.used = now
        return session

    def lives(self, session: OperatorSession, now: float) -> bool:
        """Whether it is the ticket's present one, and has not been idle too long."""
        return self._sessions.get(session.ticket) is session and now - session.used < IDLE_SECONDS

    def end(self, ticket: str) -> None:
        """End the ticket's session, and what has begun to become one."""
        self._sessions.pop(ticket, None)
        self._nonces = {name: kept for name, kept in self._nonces.items() if kept[0] != ticket}
