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

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from protocol.approvers import MAX_APPROVERS, ApproversError, ApproverSet, signers
from protocol.canonical import CanonicalError, canonical
from protocol.keyrings import Keyring
from protocol.persons import PersonKey, Purpose, SignatureError, Site, digest, verify
from protocol.terms import DEFAULT_MODE, Terms

FORMAT = "break-glass ticket v1"
KINDS = frozenset({"ordinary", "emergency"})
SCOPES = ("exec", "logs:read", "status", "workspace:read", "workspace:write")
"""Sorted, as a ticket lists them."""
EMERGENCY_SCOPES = frozenset({"logs:read", "status", "workspace:read"})
WHOLE_WORKSPACE = ""
MIN_SECONDS, MAX_SECONDS, DEFAULT_SECONDS, MAX_EMERGENCY_SECONDS = 60, 4 * 3600, 1800, 900
MAX_WAIT_SECONDS = 4 * 3600
CLOCK_LEEWAY_SECONDS = 60
"""How far ahead of the guest's clock ``asked_at`` may be."""
MIN_REASON, MAX_REASON, MAX_INCIDENT, MAX_NAME = 20, 2000, 500, 80
MAX_PATHS = 32
MAX_PATHS_BYTES = 1024
"""All paths together, in UTF-8: each token names them."""
MAX_GRANT_BYTES = 60 * 1024
_FIELDS = {
    *("format", "ticket", "revision", "kind", "tenant_id", "runtime_id", "requester", "reason", "incident"),
    *("scopes", "paths", "seconds", "asked_at", "wait_until", "approvers", "nonce"),
}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASH = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"[0-9a-f]{32}")
_URL = re.compile(r"https?://[!-~]+")
_DECEIVING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]")
"""Characters that turn round or break what an approver reads."""


class TicketRefused(ValueError):
    """A ticket that must not be made, signed or believed; the message names what to change.

    ``code`` is for machines.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Requester:
    """Who asks, and with which passkey."""

    person: str
    """``user:<number>``, as approvers are named."""
    name: str
    key: PersonKey


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
        if not isinstance(document, Mapping) or document.keys() != _FIELDS:
            raise _malformed(f"a ticket must be an object with exactly: {', '.join(sorted(_FIELDS))}")
        try:
            canonical(document)
        except CanonicalError as error:
            raise _malformed(str(error)) from None
        if document["format"] != FORMAT:
            raise _malformed(f"format must be {FORMAT}")
        for name in ("ticket", "tenant_id", "runtime_id"):
            _matching(document, name, _UUID, "a UUID in lower case")
        _matching(document, "nonce", _NONCE, "32 hexadecimal digits")
        kind, scopes = _kind(document), _scopes(document)
        paths = _paths(document, scopes)
        seconds, asked_at, wait_until = _times(document)
        _check_emergency(kind, scopes, seconds)
        version, set_hash = _set_of(document)
        return cls(
            ticket=document["ticket"],
            revision=_whole(document, "revision", 1, 10_000),
            kind=kind,
            tenant_id=document["tenant_id"],
            runtime_id=document["runtime_id"],
            requester=_requester(document["requester"]),
            reason=_reason(document),
            incident=_incident(document),
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
        if path and not _is_plain(path):
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
            raise _malformed("a grant must be an object with exactly: approvals, document, owner, request")
        document, request, approvals, owner = (
            data[name] for name in ("document", "request", "approvals", "owner")
        )
        if not isinstance(approvals, list) or len(approvals) > MAX_APPROVERS:
            raise _malformed(f"approvals must be a list of up to {MAX_APPROVERS}")
        signatures = [request, *approvals, *([] if owner is None else [owner])]
        if not all(isinstance(one, Mapping) for one in (document, *signatures)):
            raise _malformed("the ticket and each signature must be an object")
        try:
            size = len(canonical(data))
        except CanonicalError as error:
            raise _malformed(str(error)) from None
        if size > MAX_GRANT_BYTES:
            raise _malformed(f"a grant has {MAX_GRANT_BYTES} bytes at most")
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


def _kind(document: Mapping[str, Any]) -> str:
    kind = document["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise _malformed("kind must be ordinary or emergency")
    return kind


def _scopes(document: Mapping[str, Any]) -> tuple[str, ...]:
    scopes = _texts(document, "scopes")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise _malformed(f"scopes must be one or more of {', '.join(SCOPES)}")
    if "workspace:write" in scopes and "workspace:read" not in scopes:
        raise _malformed("who may write must be able to read: add workspace:read")
    return scopes


def _paths(document: Mapping[str, Any], scopes: tuple[str, ...]) -> tuple[str, ...]:
    paths = _texts(document, "paths")
    if len(paths) > MAX_PATHS or sum(len(path.encode()) for path in paths) > MAX_PATHS_BYTES:
        raise _malformed(f"at most {MAX_PATHS} paths, of {MAX_PATHS_BYTES} bytes together")
    if "exec" in scopes:
        if paths != (WHOLE_WORKSPACE,):
            raise _malformed("exec reaches the whole workspace: its only path is the empty one")
        return paths
    if not any(scope.startswith("workspace:") for scope in scopes):
        if paths:
            raise _malformed("paths need a workspace scope: leave them out")
        return paths
    if not paths:
        raise _malformed("a workspace scope needs a path")
    if paths != (WHOLE_WORKSPACE,) and not all(_is_plain(path) and _is_clear(path) for path in paths):
        raise _malformed(
            "a path is relative, without empty segments, . or .., and without control characters; "
            "the whole workspace is the empty path alone"
        )
    return paths


def _is_plain(path: str) -> bool:
    return "\0" not in path and not {"", ".", ".."} & set(path.split("/"))


def _is_clear(text: str, *, lines: bool = False) -> bool:
    """Whether an approver reads what is signed: NFC, nothing that hides or turns the text."""
    plain = text.replace("\n", " ").replace("\t", " ") if lines else text
    hidden = any(unicodedata.category(character) in {"Cc", "Cs"} for character in plain)
    return not hidden and not _DECEIVING.search(text) and unicodedata.normalize("NFC", text) == text


def _texts(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Sorted by code point, without repetition: one list, one spelling."""
    found = document[name]
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise _malformed(f"{name} must be a list of text")
    if found != sorted(set(found)):
        raise _malformed(f"{name} must be sorted and name nothing twice")
    return tuple(found)


def _times(document: Mapping[str, Any]) -> tuple[int, int, int]:
    seconds = _whole(document, "seconds", MIN_SECONDS, MAX_SECONDS)
    asked_at = _whole(document, "asked_at", 1, 2**40)
    wait_until = _whole(document, "wait_until", asked_at + 1, asked_at + MAX_WAIT_SECONDS)
    return seconds, asked_at, wait_until


def _check_emergency(kind: str, scopes: tuple[str, ...], seconds: int) -> None:
    if kind != "emergency":
        return
    if not set(scopes) <= EMERGENCY_SCOPES:
        raise _malformed("an emergency only reads: leave out workspace:write and exec")
    if seconds > MAX_EMERGENCY_SECONDS:
        raise _malformed(f"an emergency lasts {MAX_EMERGENCY_SECONDS} seconds at most")


def _set_of(document: Mapping[str, Any]) -> tuple[int, str]:
    found = document["approvers"]
    if not isinstance(found, Mapping) or found.keys() != {"version", "hash"}:
        raise _malformed("approvers must be an object with exactly: hash, version")
    _matching(found, "hash", _HASH, "64 hexadecimal digits")
    return _whole(found, "version", 1, 2**31 - 1), str(found["hash"])


def _requester(found: Any) -> Requester:
    if not isinstance(found, Mapping) or found.keys() != {"person", "name", "key"}:
        raise _malformed("requester must be an object with exactly: key, name, person")
    for name in ("person", "name"):
        text = found[name]
        if not isinstance(text, str) or not 0 < len(text) <= MAX_NAME or not _is_clear(text):
            raise _malformed(f"requester.{name} must be text of 1 to {MAX_NAME} characters")
    try:
        raw = bytes.fromhex(found["key"])
    except (ValueError, TypeError):
        raw = b""
    if not 32 < len(raw) <= 512 or raw.hex() != found["key"]:
        raise _malformed("requester.key is a passkey's SubjectPublicKeyInfo in hexadecimal")
    return Requester(found["person"], found["name"], PersonKey("passkey", raw))


def _reason(document: Mapping[str, Any]) -> str:
    reason = document["reason"]
    fits = isinstance(reason, str) and len(reason) <= MAX_REASON and len(reason.strip()) >= MIN_REASON
    if not fits or not _is_clear(reason, lines=True):
        raise _malformed(f"reason must be plain text of {MIN_REASON} to {MAX_REASON} characters")
    return str(reason)


def _incident(document: Mapping[str, Any]) -> str:
    incident = document["incident"]
    if not isinstance(incident, str) or len(incident) > MAX_INCIDENT:
        raise _malformed(f"incident must be text of up to {MAX_INCIDENT} characters")
    if incident and not _URL.fullmatch(incident):
        raise _malformed("incident must be empty or a link with http or https")
    return incident


def _whole(document: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = document[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _malformed(f"{name} must be a whole number from {low} to {high}")
    return value


def _matching(document: Mapping[str, Any], name: str, form: re.Pattern[str], words: str) -> None:
    value = document[name]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _malformed(f"{name} must be {words}")


def _malformed(message: str) -> TicketRefused:
    return TicketRefused("malformed", message)
