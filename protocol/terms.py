"""The owner's terms for break-glass: whether approvers may let staff in at all, and whether alone.

A guest without terms lets approvers decide, once an owner has named them. Terms are signed by an owner of the
keyring in force, with any key; their version only rises, and never by so much that none is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from protocol.canonical import CanonicalError, canonical
from protocol.keyrings import Keyring
from protocol.persons import Purpose, SignatureError, Site, verify

MODES = ("closed", "approvers", "owner")
"""Nobody; enough approvers; enough approvers and one owner."""
DEFAULT_MODE = "approvers"
MAX_STEP = 1000
"""How far a version may rise at once. A guest may miss some; but no owner signs the last one that there is,
which the owners after could never close."""
_FIELDS = {"version", "tenant_id", "ordinary", "emergency"}


class TermsError(ValueError):
    """Terms that must not be taken. ``code`` is for machines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Terms:
    """Well-formed terms."""

    version: int
    tenant_id: str
    ordinary: str
    emergency: str
    document: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical document in hex."""
        return sha256(canonical(self.document)).hexdigest()

    def mode(self, kind: str) -> str:
        """One of ``MODES`` for a ticket's kind. One that is not known here is closed."""
        return {"ordinary": self.ordinary, "emergency": self.emergency}.get(kind, "closed")

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read terms. Raises TermsError: ``malformed``."""
        if not isinstance(document, Mapping) or document.keys() != _FIELDS:
            raise _malformed(f"they must be an object with exactly: {', '.join(sorted(_FIELDS))}")
        try:
            canonical(document)
        except CanonicalError as error:
            raise _malformed(str(error)) from None
        version, tenant_id = document["version"], document["tenant_id"]
        if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 2**31:
            raise _malformed("version must be a whole number from 1")
        if not isinstance(tenant_id, str):
            raise _malformed("tenant_id must be text")
        modes = (document["ordinary"], document["emergency"])
        if any(not isinstance(mode, str) or mode not in MODES for mode in modes):
            raise _malformed(f"ordinary and emergency must each be one of {', '.join(MODES)}")
        return cls(version, tenant_id, *modes, dict(document))


def accept(
    current: Terms | None,
    document: Any,
    signature: Mapping[str, Any],
    keyring: Keyring | None,
    tenant_id: str,
    site: Site | None,
) -> Terms:
    """The terms that hold from now on. Sending the present ones again changes nothing.

    ``signature`` is a person signature with one member more, ``by``: the signer's fingerprint.

    Raises:
        TermsError: ``malformed``, ``wrong_tenant``, ``rolled_back``, ``forked``, ``version_skipped``,
            ``not_an_owner`` or ``bad_signature``.
    """
    new = Terms.parse(document)
    if new.tenant_id != tenant_id:
        raise TermsError("wrong_tenant", "the terms are another tenant's")
    if current is not None:
        if new.version == current.version and new.hash == current.hash:
            return current
        if new.version < current.version:
            raise TermsError("rolled_back", f"version {current.version} is in force")
        if new.version == current.version:
            raise TermsError("forked", f"another version {current.version} is in force")
    highest = (current.version if current is not None else 0) + MAX_STEP
    if new.version > highest:
        raise TermsError("version_skipped", f"the next version is {highest} at most")
    by = signature.get("by")
    member = keyring.members.get(by) if keyring is not None and isinstance(by, str) else None
    if member is None or member.role != "owner":
        raise TermsError("not_an_owner", "an owner of the keyring in force must sign")
    try:
        verify(member.key, signature, Purpose.TERMS, document, site)
    except SignatureError as error:
        raise TermsError("bad_signature", str(error)) from None
    return new


def _malformed(message: str) -> TermsError:
    return TermsError("malformed", message)
