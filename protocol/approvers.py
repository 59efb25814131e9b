"""The set of people who approve together: what a quorum is, and by which rule the set may change.

A guest takes its first set only with the naming of an owner whom its keyring names: so the owner decides
whom the guest will ever believe. A naming is for one tenant. Each later set is signed by a quorum of the one
before; no scope needs more people than that quorum has, for they can change the policy. Distinct people are
counted, not keys. Only passkeys approve, with user verification.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from protocol.canonical import CanonicalError, canonical
from protocol.keyrings import Keyring
from protocol.persons import PersonKey, Purpose, SignatureError, Site, passkey_of, verify

MAX_APPROVERS = 32
POLICY = frozenset({"status", "logs:read", "workspace:read", "workspace:write", "exec", "emergency"})
"""What a set's policy gives a number for: each scope of an ordinary ticket, and emergencies as a whole."""
DEFAULT_POLICY: Mapping[str, int] = {
    "status": 1,
    "logs:read": 1,
    "workspace:read": 1,
    "workspace:write": 2,
    "exec": 2,
    "emergency": 1,
}
_FIELDS = {"version", "previous", "threshold", "policy", "approvers"}
_ENTRY = {"kind", "public_key", "person", "name"}


class ApproversError(ValueError):
    """A set that must not be taken, or a quorum that is not there. ``code`` is for machines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Approver:
    """One key and the person who holds it."""

    key: PersonKey
    person: str
    """What names the person, the same in all their keys."""


@dataclass(frozen=True)
class ApproverSet:
    """A well-formed set."""

    version: int
    previous: str | None
    """SHA-256 of the canonical set before, in hex."""
    threshold: int
    """How many people make a quorum, which changes the set and recovers keyrings."""
    policy: Mapping[str, int]
    """How many people must approve a ticket, by scope: the most that one of its scopes needs. None is above
    ``threshold``: the quorum could sign a lower one."""
    approvers: Mapping[str, Approver]
    """By fingerprint."""
    document: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical document in hex."""
        return sha256(canonical(self.document)).hexdigest()

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read a set.

        Raises:
            ApproversError: ``malformed``; also for a number that its people can never reach.
        """
        if not isinstance(document, Mapping) or document.keys() != _FIELDS:
            raise _malformed(f"it must be an object with exactly: {', '.join(sorted(_FIELDS))}")
        try:
            canonical(document)
        except CanonicalError as error:
            raise _malformed(str(error)) from None
        entries = document["approvers"]
        if not isinstance(entries, list) or not 0 < len(entries) <= MAX_APPROVERS:
            raise _malformed(f"approvers must be a list of 1 to {MAX_APPROVERS}")
        parsed = [_approver(entry) for entry in entries]
        approvers = {approver.key.fingerprint: approver for approver in parsed}
        if len(approvers) != len(parsed):
            raise _malformed("a key stands twice")
        version, threshold, previous = document["version"], document["threshold"], document["previous"]
        if not _whole(version) or not _whole(threshold) or not isinstance(previous, str | None):
            raise _malformed("version and threshold must be whole numbers from 1, previous text or nothing")
        if (previous is None) != (version == 1):
            raise _malformed("version 1 has no previous, every later one the hash of the one before")
        people = len({approver.person for approver in parsed})
        if threshold > people:
            raise _malformed("threshold asks for more people than there are")
        return cls(
            version, previous, threshold, _policy(document["policy"], threshold), approvers, dict(document)
        )


def accept(
    current: ApproverSet | None,
    document: Any,
    signatures: Sequence[Mapping[str, Any]],
    keyring: Keyring | None,
    site: Site | None,
) -> ApproverSet:
    """The set that holds from now on. Sending the present one again changes nothing.

    ``signatures`` are person signatures with one member more, ``by``: the signer's fingerprint. For the first
    set, of whatever version, an owner of ``keyring`` must have signed the :func:`naming_document` for the
    keyring's tenant; later ones follow by one and need a quorum of ``current``.

    Raises:
        ApproversError: ``malformed``, ``rolled_back``, ``forked``, ``version_skipped``, ``not_an_owner``,
            ``bad_signature`` or ``no_quorum``.
    """
    new = ApproverSet.parse(document)
    if current is None:
        _check_owner(keyring, new, signatures, site)
        return new
    if new.version == current.version and new.hash == current.hash:
        return current
    if new.version < current.version:
        raise ApproversError("rolled_back", f"version {current.version} is in force")
    if new.version == current.version or new.previous != current.hash:
        raise ApproversError("forked", "it does not follow the set in force")
    if new.version != current.version + 1:
        raise ApproversError("version_skipped", f"the next version is {current.version + 1}")
    check_quorum(current, Purpose.APPROVERS, document, signatures, site)
    return new


def check_quorum(
    approvers: ApproverSet,
    purpose: Purpose,
    document: Any,
    signatures: Sequence[Mapping[str, Any]],
    site: Site | None,
) -> frozenset[str]:
    """The people of the set who have signed ``document``: at least as many as its threshold.

    Raises:
        ApproversError: ``bad_signature`` if one does not hold, whoever else signed; ``no_quorum``.
    """
    people = signers(approvers, purpose, document, signatures, site)
    if len(people) < approvers.threshold:
        raise ApproversError("no_quorum", f"{approvers.threshold} different people must sign")
    return people


def signers(
    approvers: ApproverSet,
    purpose: Purpose,
    document: Any,
    signatures: Sequence[Mapping[str, Any]],
    site: Site | None,
) -> frozenset[str]:
    """The people of the set who have signed ``document``, however few.

    Raises:
        ApproversError: ``bad_signature`` if one does not hold, whoever else signed; ``malformed``.
    """
    if len(signatures) > MAX_APPROVERS:
        raise ApproversError("malformed", f"at most {MAX_APPROVERS} signatures")
    people = set()
    for signature in signatures:
        by = signature.get("by")
        approver = approvers.approvers.get(by) if isinstance(by, str) else None
        if approver is None:
            raise ApproversError("bad_signature", "a signer is no approver of the set in force")
        try:
            verify(approver.key, signature, purpose, document, site)
        except SignatureError as error:
            raise ApproversError("bad_signature", str(error)) from None
        people.add(approver.person)
    return frozenset(people)


def naming_document(tenant_id: str, approvers: ApproverSet) -> dict[str, Any]:
    """What an owner signs, for ``Purpose.NAMING``, so that this tenant's guest begins with this set."""
    return {"tenant_id": tenant_id, "version": approvers.version, "hash": approvers.hash}


def recovery_document(tenant_id: str, keyring: Keyring, approvers: ApproverSet) -> dict[str, Any]:
    """What approvers sign, for ``Purpose.RECOVERY``, so that ``keyring`` follows without an owner."""
    return {
        "tenant_id": tenant_id,
        "previous": keyring.previous,
        "keyring": keyring.hash,
        "approvers": approvers.hash,
    }


def _check_owner(
    keyring: Keyring | None, named: ApproverSet, signatures: Sequence[Mapping[str, Any]], site: Site | None
) -> None:
    not_an_owner = ApproversError("not_an_owner", "an owner of the keyring in force must name the first set")
    if keyring is None:
        raise not_an_owner
    asked = naming_document(keyring.tenant_id, named)
    for signature in signatures[:MAX_APPROVERS]:
        by = signature.get("by")
        member = keyring.members.get(by) if isinstance(by, str) else None
        if member is None or member.role != "owner":
            continue
        try:
            verify(member.key, signature, Purpose.NAMING, asked, site)
        except SignatureError as error:
            raise ApproversError("bad_signature", str(error)) from None
        return
    raise not_an_owner


def _approver(entry: Any) -> Approver:
    if not isinstance(entry, Mapping) or entry.keys() != _ENTRY:
        raise _malformed(f"an approver must be an object with exactly: {', '.join(sorted(_ENTRY))}")
    texts = (entry["person"], entry["name"])
    if any(not isinstance(text, str) or not 0 < len(text) <= 80 for text in texts):
        raise _malformed("person and name must be text of 1 to 80 characters")
    # Canonical form is NFC: another spelling would have the same hash, and count one person as two.
    if any(unicodedata.normalize("NFC", text) != text for text in texts):
        raise _malformed("person and name must be in NFC")
    if entry["kind"] != "passkey":
        raise _malformed("only passkeys approve: kind must be passkey")
    try:
        key = passkey_of(entry["public_key"])
    except ValueError as error:
        raise _malformed(f"an approver's key is its SubjectPublicKeyInfo in hexadecimal: {error}") from None
    return Approver(key, entry["person"])


def _policy(policy: Any, threshold: int) -> Mapping[str, int]:
    if not isinstance(policy, Mapping) or policy.keys() != POLICY:
        raise _malformed(f"policy must be an object with exactly: {', '.join(sorted(POLICY))}")
    for name, number in policy.items():
        if not _whole(number):
            raise _malformed(f"policy: {name} must be a whole number from 1")
        if number > threshold:
            raise _malformed(
                f"policy: {name} asks for {number} people, and {threshold} can change the policy: "
                "raise the threshold"
            )
    return dict(policy)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _malformed(message: str) -> ApproversError:
    return ApproversError("malformed", message)
