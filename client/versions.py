"""The next version of a keyring, and what it changes in words. Pure functions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from client.errors import Failure
from client.screen import plain
from protocol.keyrings import Keyring, KeyringError, Member, accept
from protocol.persons import PersonKey, Site

Document = dict[str, Any]


def first(tenant_id: str, owner: PersonKey, name: str, recovery: PersonKey) -> Document:
    """Version 1, with one owner."""
    return {
        "version": 1,
        "tenant_id": tenant_id,
        "previous": None,
        "members": [_entry(owner, "owner", name)],
        "recovery": _recovery(recovery),
    }


def added(keyring: Keyring, key: PersonKey, role: str, name: str) -> Document:
    """One member more, or the same with another role.

    Raises:
        Failure: that member is there in that role.
    """
    present = keyring.members.get(key.fingerprint)
    if present is not None and present.role == role:
        raise Failure(f"That key is in the keyring already, as {role}.")
    return _next(keyring, [*_without(keyring, {key.fingerprint}), _entry(key, role, name)])


def removed(keyring: Keyring, fingerprint: str) -> Document:
    """One member less.

    Raises:
        Failure: there is none of that fingerprint.
    """
    if fingerprint not in keyring.members:
        raise Failure("No key of that fingerprint is in the keyring.")
    return _next(keyring, _without(keyring, {fingerprint}))


def recovered(
    keyring: Keyring, owner: PersonKey, name: str, recovery: PersonKey, drop: Collection[str]
) -> Document:
    """``owner`` among the owners, the members of ``drop`` gone, and a fresh recovery key.

    Raises:
        Failure: one to drop is not there, or is ``owner``.
    """
    if owner.fingerprint in drop:
        raise Failure("The key of this device is to be added and dropped at once. Leave it out of --drop.")
    strangers = [fingerprint for fingerprint in drop if fingerprint not in keyring.members]
    if strangers:
        raise Failure(f"To be dropped, but not in the keyring: {', '.join(strangers)}.")
    kept = _without(keyring, {*drop, owner.fingerprint})
    return {**_next(keyring, [*kept, _entry(owner, "owner", name)]), "recovery": _recovery(recovery)}


def checked(
    current: Keyring | None, document: Document, signature: Mapping[str, Any], tenant_id: str, site: Site
) -> Keyring:
    """The keyring, if a guest that holds ``current`` would take it.

    Raises:
        Failure: it would not.
    """
    try:
        return accept(current, document, signature, tenant_id, site)
    except KeyringError as error:
        raise Failure(f"The guest would not take this keyring: {plain(str(error))}.") from None


@dataclass(frozen=True)
class Change:
    """One key that comes (+), goes (-) or gets another part (~)."""

    mark: str
    fingerprint: str
    words: str


def changes(old: Keyring | None, new: Keyring) -> list[Change]:
    """What ``new`` changes, in the order of the keyrings."""
    before = old.members if old else {}
    found = [_change("+", member) for fingerprint, member in new.members.items() if fingerprint not in before]
    found += [
        _change("-", member) for fingerprint, member in before.items() if fingerprint not in new.members
    ]
    for fingerprint, was in before.items():
        now = new.members.get(fingerprint, was)
        if was.role != now.role:
            found.append(_change("~", now, f", was {was.role}"))
    if old is None or old.recovery != new.recovery:
        found.append(Change("~", new.recovery.fingerprint, "recovery key"))
    return found


def _change(mark: str, member: Member, more: str = "") -> Change:
    return Change(mark, member.key.fingerprint, f"{member.role}, {member.key.kind}{more}")


def _next(keyring: Keyring, members: list[Document]) -> Document:
    if not any(member["role"] == "owner" for member in members):
        raise Failure("An owner must be left in the keyring.")
    document = {
        **keyring.document,
        "version": keyring.version + 1,
        "previous": keyring.hash,
        "members": members,
    }
    try:
        Keyring.parse(document)
    except KeyringError as error:
        raise Failure(f"That keyring would not do: {plain(str(error))}.") from None
    return document


def _without(keyring: Keyring, gone: Collection[str]) -> list[Document]:
    # Keyring.parse keeps the order of the document's members.
    both = zip(keyring.members, keyring.document["members"], strict=True)
    return [entry for fingerprint, entry in both if fingerprint not in gone]


def _entry(key: PersonKey, role: str, name: str) -> Document:
    return {"kind": key.kind, "public_key": key.public_key.hex(), "role": role, "name": name}


def _recovery(key: PersonKey) -> Document:
    return {"kind": key.kind, "public_key": key.public_key.hex()}
