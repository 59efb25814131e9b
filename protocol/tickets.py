"""A break-glass ticket: what is asked for, who signs it, and the one rule by which a guest believes it.

The requester signs the ticket with a passkey, enough approvers sign this very ticket with theirs, and the
operator proves possession of the requester's passkey again to the guest. :func:`judge` is the whole decision
when a grant arrives; :func:`check_standing` is what must still hold with each request that uses it.

Codes of :class:`TicketRefused` that a guest gives:

====================== =====================================================================
``malformed``          the ticket, the grant or one of its signatures has another form
``wrong_tenant``       another tenant's ticket
``wrong_runtime``      another guest's ticket
``no_approvers``       no owner has ever named approvers to this guest
``wrong_set``          asked under another approver set than the one pinned here
``bad_request_signature`` the requester's passkey has not signed this ticket
``bad_signature``      one approval, or the owner's signature, does not hold
``own_approval``       the requester, under any name or key, is among the approvers
``no_quorum``          fewer different people than the ticket needs
``closed``             the owner's terms let nobody in
``owner_missing``      the owner's terms want an owner's signature too
``too_early``          asked at a time that has not come
``too_late``           not used before its waiting time was over
====================== =====================================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from protocol.approvers import MAX_APPROVERS, ApproversError, ApproverSet, signers
from protocol.canonical import CanonicalError, canonical
from protocol.keyrings import Keyring
from protocol.persons import Purpose, SignatureError, Site, digest, verify
from protocol.terms import DEFAULT_MODE, Terms
from protocol.ticket_form import CLOCK_LEEWAY_SECONDS as CLOCK_LEEWAY_SECONDS
from protocol.ticket_form import DEFAULT_SECONDS as DEFAULT_SECONDS
from protocol.ticket_form import EMERGENCY_SCOPES as EMERGENCY_SCOPES
from protocol.ticket_form import (
    FIELDS,
    check_emergency,
    check_names,
    incident_of,
    is_plain,
    kind_of,
    malformed,
    paths_of,
    reason_of,
    requester_of,
    scopes_of,
    set_of,
    times_of,
    whole,
)
from protocol.ticket_form import FORMAT as FORMAT
from protocol.ticket_form import MAX_EMERGENCY_SECONDS as MAX_EMERGENCY_SECONDS
from protocol.ticket_form import MAX_GRANT_BYTES as MAX_GRANT_BYTES
from protocol.ticket_form import MAX_INCIDENT as MAX_INCIDENT
from protocol.ticket_form import MAX_PATHS as MAX_PATHS
from protocol.ticket_form import MAX_REASON as MAX_REASON
from protocol.ticket_form import MAX_SECONDS as MAX_SECONDS
from protocol.ticket_form import MIN_REASON as MIN_REASON
from protocol.ticket_form import MIN_SECONDS as MIN_SECONDS
from protocol.ticket_form import SCOPES as SCOPES
from protocol.ticket_form import WHOLE_WORKSPACE as WHOLE_WORKSPACE
from protocol.ticket_form import Requester as Requester
from protocol.ticket_form import TicketRefused as TicketRefused


@dataclass(frozen=True)
class Ticket:
    """A well-formed ticket. Times in whole seconds since 1970."""

    ticket: str
    """Its UUID."""
    revision: int
    kind: str
    tenant_id: str
    runtime_id: str
    requester: Requester
    reason: str
    incident: str
    scopes: tuple[str, ...]
    paths: tuple[str, ...]
    seconds: int
    """How long the access lasts from its start."""
    asked_at: int
    wait_until: int
    """The start must come before."""
    approvers_version: int
    approvers_hash: str
    nonce: str
    document: Mapping[str, Any]

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read a ticket.

        Raises:
            TicketRefused: ``malformed``; the message names the member.
        """
        if not isinstance(document, Mapping) or document.keys() != FIELDS:
            raise malformed(f"a ticket must be an object with exactly: {', '.join(sorted(FIELDS))}")
        try:
            canonical(document)
        except CanonicalError as error:
            raise malformed(str(error)) from None
        if document["format"] != FORMAT:
            raise malformed(f"format must be {FORMAT}")
        check_names(document)
        kind, scopes = kind_of(document), scopes_of(document)
        paths = paths_of(document, scopes)
        seconds, asked_at, wait_until = times_of(document)
        check_emergency(kind, scopes, seconds)
        version, set_hash = set_of(document)
        return cls(
            ticket=document["ticket"],
            revision=whole(document, "revision", 1, 10_000),
            kind=kind,
            tenant_id=document["tenant_id"],
            runtime_id=document["runtime_id"],
            requester=requester_of(document["requester"]),
            reason=reason_of(document),
            incident=incident_of(document),
            scopes=scopes,
            paths=paths,
            seconds=seconds,
            asked_at=asked_at,
            wait_until=wait_until,
            approvers_version=version,
            approvers_hash=set_hash,
            nonce=document["nonce"],
            document=dict(document),
        )

    @property
    def digest(self) -> str:
        """What approvers sign, in hex; what a token's ``digest`` holds."""
        return digest(Purpose.APPROVAL, self.document).hex()

    def covers(self, path: str) -> bool:
        """Whether ``path``, relative to the workspace and already canonical, lies at or under a path of it.

        Names are compared byte for byte. A file whose name is not NFC is reached through its folder.
        """
        if path and not is_plain(path):
            return False
        return any(one == WHOLE_WORKSPACE or path == one or path.startswith(f"{one}/") for one in self.paths)


@dataclass(frozen=True)
class Grant:
    """A ticket with its signatures, as the portal hands it to the guest. Reading it proves nothing."""

    document: Mapping[str, Any]
    """The ticket's."""
    request: Mapping[str, Any]
    """The requester's signature."""
    approvals: tuple[Mapping[str, Any], ...]
    owner: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Read a grant. Raises TicketRefused: ``malformed``."""
        if not isinstance(data, Mapping) or data.keys() != {"document", "request", "approvals", "owner"}:
            raise malformed("a grant must be an object with exactly: approvals, document, owner, request")
        document, request, approvals, owner = (
            data[name] for name in ("document", "request", "approvals", "owner")
        )
        if not isinstance(approvals, list) or len(approvals) > MAX_APPROVERS:
            raise malformed(f"approvals must be a list of up to {MAX_APPROVERS}")
        signatures = [request, *approvals, *([] if owner is None else [owner])]
        if not all(isinstance(one, Mapping) for one in (document, *signatures)):
            raise malformed("the ticket and each signature must be an object")
        try:
            size = len(canonical(data))
        except CanonicalError as error:
            raise malformed(str(error)) from None
        if size > MAX_GRANT_BYTES:
            raise malformed(f"a grant has {MAX_GRANT_BYTES} bytes at most")
        return cls(dict(document), dict(request), tuple(map(dict, approvals)), owner and dict(owner))

    def to_document(self) -> dict[str, Any]:
        """As it is sent and stored; :meth:`parse` reads it."""
        return {
            "document": self.document,
            "request": self.request,
            "approvals": list(self.approvals),
            "owner": self.owner,
        }


@dataclass(frozen=True)
class Judged:
    """A grant that a guest may act on."""

    ticket: Ticket
    people: frozenset[str]
    """Who approved."""
    owner: str | None
    """Fingerprint of the owner's key that signed too."""


def needed(ticket: Ticket, approvers: ApproverSet) -> int:
    """How many different people must approve."""
    if ticket.kind == "emergency":
        return approvers.policy["emergency"]
    return max(approvers.policy[scope] for scope in ticket.scopes)


def may_approve(ticket: Ticket, approvers: ApproverSet) -> frozenset[str]:
    """The people of the set whose approval counts for this ticket: all but the requester."""
    return frozenset(one.person for one in approvers.approvers.values()) - _barred(ticket, approvers)


def rejection_document(ticket: Ticket) -> dict[str, Any]:
    """What an approver signs, for ``Purpose.REJECTION``."""
    return {"ticket": ticket.ticket, "revision": ticket.revision, "digest": ticket.digest}


def session_document(nonce: str, ticket: Ticket) -> dict[str, Any]:
    """What the operator signs in the guest, for ``Purpose.ACCESS``. ``nonce``: the guest's own, in hex."""
    return {
        "nonce": nonce,
        "runtime_id": ticket.runtime_id,
        "ticket": ticket.ticket,
        "digest": ticket.digest,
    }


def check_request(ticket: Ticket, signature: Mapping[str, Any], site: Site | None) -> None:
    """Check that the requester's passkey signed it. Raises TicketRefused: ``bad_request_signature``."""
    key = ticket.requester.key
    try:
        if signature.get("by") != key.fingerprint:
            raise SignatureError("another key signed")
        verify(key, signature, Purpose.ACCESS_REQUEST, ticket.document, site)
    except SignatureError as error:
        raise TicketRefused("bad_request_signature", f"the requester's signature: {error}") from None


def check_approval(
    ticket: Ticket, approvers: ApproverSet, signature: Mapping[str, Any], site: Site | None
) -> str:
    """The person who approved with ``signature``.

    Raises:
        TicketRefused: ``bad_signature`` or ``own_approval``.
    """
    try:
        (person,) = signers(approvers, Purpose.APPROVAL, ticket.document, [signature], site)
    except ApproversError as error:
        raise TicketRefused(error.code, f"an approval: {error}") from None
    if person in _barred(ticket, approvers):
        raise TicketRefused("own_approval", "the requester may not approve: ask somebody else")
    return person


def check_owner(
    ticket: Ticket, keyring: Keyring | None, signature: Mapping[str, Any], site: Site | None
) -> str:
    """The fingerprint of the owner who let this ticket in. Raises TicketRefused: ``bad_signature``."""
    by = signature.get("by")
    member = keyring.members.get(by) if keyring is not None and isinstance(by, str) else None
    if member is None or member.role != "owner":
        raise TicketRefused("bad_signature", "the signer is no owner of the keyring in force")
    try:
        verify(member.key, signature, Purpose.OWNER_APPROVAL, ticket.document, site)
    except SignatureError as error:
        raise TicketRefused("bad_signature", f"the owner's signature: {error}") from None
    return member.key.fingerprint


def judge(
    grant: Grant,
    *,
    approvers: ApproverSet | None,
    keyring: Keyring | None,
    terms: Terms | None,
    tenant_id: str,
    runtime_id: str,
    site: Site | None,
    now: int,
) -> Judged:
    """Decide whether ``grant`` begins an access now.

    Args:
        approvers: the set that this guest has pinned.
        terms: the owner's; None is the default, where approvers decide.
        site: the portal's origin only. A page of a guest may ask for nobody's approval.
        now: seconds since 1970.

    Raises:
        TicketRefused: with a code of this module's table.
    """
    ticket = Ticket.parse(grant.document)
    if ticket.tenant_id != tenant_id:
        raise TicketRefused("wrong_tenant", "the ticket is another tenant's")
    if ticket.runtime_id != runtime_id:
        raise TicketRefused("wrong_runtime", "the ticket is another guest's")
    pinned = _pinned(ticket, approvers)
    check_request(ticket, grant.request, site)
    people = frozenset(check_approval(ticket, pinned, one, site) for one in grant.approvals)
    wanted = needed(ticket, pinned)
    if not people or len(people) < wanted:
        raise TicketRefused("no_quorum", f"{wanted} different people must approve")
    owner = None if grant.owner is None else check_owner(ticket, keyring, grant.owner, site)
    judged = Judged(ticket, people, owner)
    check_standing(judged, approvers=approvers, keyring=keyring, terms=terms)
    if now < ticket.asked_at - CLOCK_LEEWAY_SECONDS:
        raise TicketRefused("too_early", "the ticket was asked at a time that has not come")
    if now >= ticket.wait_until:
        raise TicketRefused("too_late", "its waiting time is over: ask again")
    return judged


def check_standing(
    judged: Judged, *, approvers: ApproverSet | None, keyring: Keyring | None, terms: Terms | None
) -> None:
    """Whether what a judged grant rests on still holds: the set, and the owner's terms. Time is the caller's.

    Raises:
        TicketRefused: ``no_approvers``, ``wrong_set``, ``closed`` or ``owner_missing``.
    """
    ticket = judged.ticket
    _pinned(ticket, approvers)
    mode = terms.mode(ticket.kind) if terms is not None else DEFAULT_MODE
    if mode == "closed":
        raise TicketRefused("closed", "the tenant's owner has closed this way in")
    if mode == "owner" and not _is_owner(keyring, judged.owner):
        raise TicketRefused("owner_missing", "the tenant's owner must sign too")


def last_end(ticket: Ticket) -> int:
    """No access of this ticket reaches beyond, whatever else is said: seconds since 1970."""
    return ticket.wait_until + ticket.seconds


def _pinned(ticket: Ticket, approvers: ApproverSet | None) -> ApproverSet:
    if approvers is None:
        raise TicketRefused("no_approvers", "no owner has named approvers here")
    if (ticket.approvers_version, ticket.approvers_hash) != (approvers.version, approvers.hash):
        raise TicketRefused("wrong_set", f"the approver set in force is version {approvers.version}")
    return approvers


def _barred(ticket: Ticket, approvers: ApproverSet) -> frozenset[str]:
    """The requester, under every name that the set gives to the requester's key."""
    key = ticket.requester.key.fingerprint
    alias = approvers.approvers.get(key)
    return frozenset({ticket.requester.person} | ({alias.person} if alias else set()))


def _is_owner(keyring: Keyring | None, fingerprint: str | None) -> bool:
    member = keyring.members.get(fingerprint) if keyring is not None and fingerprint is not None else None
    return member is not None and member.role == "owner"
