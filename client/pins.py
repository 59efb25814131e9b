"""What this device has seen of each tenant's keyring, and the judgement on what it is shown next.

The first keyring is taken as it comes (trust on first use). From then on each must follow the one remembered,
by the same rules that the guest has, so a portal that forks or rolls back a keyring is seen.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client import files
from client.errors import Failure
from client.overview import Overview
from client.screen import plain
from protocol.keyrings import Keyring, KeyringError, accept
from protocol.persons import PersonKey, Purpose, SignatureError, Site, verify

FILE = "pins.json"
_ADVICE = (
    "Do not sign anything. Ask another owner for the hash that they see; if theirs is the portal's, "
    "run “keyring show” with --accept and that hash."
)


class Distrusted(Failure):
    """What the portal shows does not follow what this device has seen."""

    def __init__(self, what: str) -> None:
        super().__init__(f"WARNING: {what} {_ADVICE}")


@dataclass(frozen=True)
class Verdict:
    """A keyring that may be gone on with."""

    keyring: Keyring
    words: str
    """How far it could be checked, for the person."""


class Pins:
    """The file of pins, below one portal's address."""

    def __init__(self, folder: Path, portal: str) -> None:
        self._folder, self._path, self._portal = folder, folder / FILE, portal

    def get(self, slug: str) -> Keyring | None:
        """What was last seen of a tenant. Raises Failure: the file is damaged."""
        pin = self._all().get(self._portal, {}).get(slug)
        return None if pin is None else _parsed(pin, self._path)

    def put(self, slug: str, keyring: Keyring, *, whatever: bool = False) -> None:
        """Remember ``keyring`` unless a later one is remembered already; with ``whatever`` in any case."""
        with files.alone(self._folder):
            everything = self._all()
            tenants = everything.setdefault(self._portal, {})
            kept = tenants.get(slug)
            if kept is not None and not whatever and _parsed(kept, self._path).version >= keyring.version:
                return
            tenants[slug] = {
                "version": keyring.version,
                "hash": keyring.hash,
                "document": dict(keyring.document),
            }
            files.replace(self._path, json.dumps(everything, indent=1).encode() + b"\n")

    def _all(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(files.read(self._path))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(isinstance(tenants, dict) for tenants in found.values()):
            raise _damaged(self._path)
        return found


def judge(pinned: Keyring | None, seen: Overview) -> Verdict | None:
    """Whether what the portal shows follows what was seen before; None if there is no keyring yet.

    Raises:
        Distrusted: it does not, or nobody can tell.
    """
    if pinned is not None and pinned.tenant_id != seen.tenant_id:
        raise Distrusted("ANOTHER TENANT stands under this name than the one that this device has seen.")
    if seen.current is None:
        if pinned is not None:
            raise Distrusted(
                f"ROLLED BACK: the portal shows no keyring; this device has seen version {pinned.version}."
            )
        return None
    if pinned is None:
        return Verdict(seen.current, _first_sight(seen.current, seen.signature, seen.site))
    return Verdict(seen.current, _next_sight(pinned, seen.current, seen.signature, seen.site))


def _first_sight(shown: Keyring, signature: Mapping[str, Any], site: Site) -> str:
    warning = "This device sees it for the first time: compare the hash with another owner."
    if shown.version == 1:
        try:
            accept(None, shown.document, signature, shown.tenant_id, site)
        except KeyringError as error:
            raise Distrusted(f"BAD SIGNATURE on the keyring: {plain(str(error))}.") from None
        return f"Signed by an owner that it names. {warning}"
    signer = _owner(shown, signature.get("by"))
    if signer is None:
        return f"Its signer is no owner in it, so the signature says nothing here. {warning}"
    _check(signer, signature, shown, site)
    return f"Signed by an owner that it names; the versions before cannot be checked. {warning}"


def _next_sight(pinned: Keyring, shown: Keyring, signature: Mapping[str, Any], site: Site) -> str:
    if shown.version == pinned.version and shown.hash == pinned.hash:
        return "It is the one that this device has seen before."
    if shown.version < pinned.version:
        raise Distrusted(
            f"ROLLED BACK: the portal shows version {shown.version}; "
            f"this device has seen version {pinned.version}."
        )
    if shown.version == pinned.version:
        raise Distrusted(f"FORKED: this device has seen another version {pinned.version}.")
    if shown.version > pinned.version + 1:
        return _skipped(pinned, shown, signature, site)
    try:
        accept(pinned, shown.document, signature, pinned.tenant_id, site)
    except KeyringError as error:
        kind = "FORKED" if error.code == "forked" else "BAD SIGNATURE"
        raise Distrusted(
            f"{kind}: version {shown.version} is not to be taken: {plain(str(error))}."
        ) from None
    return f"It follows version {pinned.version}, which this device has seen, and is rightly signed."


def _skipped(pinned: Keyring, shown: Keyring, signature: Mapping[str, Any], site: Site) -> str:
    """Versions in between were not seen, and the portal shows only the last: its signer must be known."""
    by = signature.get("by")
    signer = pinned.recovery if by == pinned.recovery.fingerprint else _owner(pinned, by)
    if signer is None:
        raise Distrusted(
            f"NOT TO BE CHECKED: this device has seen version {pinned.version}, "
            f"and version {shown.version} is signed by a key that was no owner then."
        )
    _check(signer, signature, shown, site)
    return (
        f"It is signed by a key that this device has seen in version {pinned.version}; "
        "the versions in between cannot be checked."
    )


def _check(signer: PersonKey, signature: Mapping[str, Any], shown: Keyring, site: Site) -> None:
    try:
        verify(signer, signature, Purpose.KEYRING, shown.document, site)
    except SignatureError as error:
        raise Distrusted(f"BAD SIGNATURE on the keyring: {plain(str(error))}.") from None


def _owner(keyring: Keyring, by: Any) -> PersonKey | None:
    member = keyring.members.get(by) if isinstance(by, str) else None
    return member.key if member is not None and member.role == "owner" else None


def _parsed(pin: Any, path: Path) -> Keyring:
    try:
        keyring = Keyring.parse(pin["document"])
        if (pin["version"], pin["hash"]) == (keyring.version, keyring.hash):
            return keyring
    except (KeyringError, KeyError, TypeError):
        pass
    raise _damaged(path)


def _damaged(path: Path) -> Failure:
    return Failure(f"{path} is damaged. Restore it; without it this device starts to trust anew.")
