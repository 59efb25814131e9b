"""The last way back: a quorum of approvers puts a keyring in force, after 72 hours of notice.

The owners have lost every key and the recovery key. Approvers sign the next keyring; the guest checks each
signature, states the wait to whoever asks, and shows it to every member who signs in. Any owner ends it, and
so does any keyring that an owner signs meanwhile, and the next set of approvers: those who began it may be
approvers no more. Who the approvers are was signed by an owner beforehand; a guest that knows none has no
such way.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guest.agent.files import read_optional, write_atomically
from guest.agent.members import Members, MembersFileError, MembersRefused
from protocol.approvers import ApproversError, ApproverSet, accept, check_quorum, recovery_document
from protocol.canonical import canonical
from protocol.keyrings import Keyring, KeyringError
from protocol.persons import Purpose, Site

APPROVERS_FILE = "approvers.json"
RECOVERY_FILE = "recovery.json"
NOTICE_SECONDS = 72 * 3600


@dataclass(frozen=True)
class Pending:
    """A recovery that waits."""

    keyring: Keyring
    began: int
    """Whole seconds since 1970, by this guest's clock."""
    approvers: str
    """Hash of the set whose quorum has signed."""

    @property
    def due(self) -> int:
        """When it may take effect."""
        return self.began + NOTICE_SECONDS


class Recovery:
    """The pinned approvers, and the recovery that waits, on the data volume."""

    def __init__(self, folder: Path, members: Members, tenant_id: str, site: Site | None) -> None:
        """Raises MembersFileError."""
        self._folder, self._members, self._tenant_id, self._site = folder, members, tenant_id, site
        try:
            stored, waiting = read_optional(folder / APPROVERS_FILE), read_optional(folder / RECOVERY_FILE)
            self.approvers = ApproverSet.parse(json.loads(stored)) if stored else None
            self._pending = _pending(json.loads(waiting)) if waiting else None
        except (ValueError, TypeError, KeyError) as error:
            raise MembersFileError(f"the record of approvers is damaged: {type(error).__name__}") from None

    @property
    def pending(self) -> Pending | None:
        """The recovery that waits; none once a keyring, or another set of approvers, has come in between."""
        found, current, pinned = self._pending, self._members.keyring, self.approvers
        if found is None or current is None or found.keyring.previous != current.hash:
            return None
        if pinned is None or found.approvers != pinned.hash:
            return None
        return found

    def take_approvers(self, document: Any, signatures: Sequence[Mapping[str, Any]]) -> ApproverSet:
        """Pin the first set, or follow the one in force.

        Raises:
            MembersRefused: with the codes of :class:`protocol.approvers.ApproversError`.
        """
        try:
            found = accept(self.approvers, document, signatures, self._members.keyring, self._site)
        except ApproversError as error:
            raise MembersRefused(error.code, str(error)) from None
        if found is not self.approvers:
            write_atomically(self._folder / APPROVERS_FILE, canonical(found.document))
            self.approvers = found
        return found

    def begin(self, document: Any, signatures: Sequence[Mapping[str, Any]], now: int) -> Pending:
        """Begin the notice for the keyring ``document``. The one that waits, sent again, goes on waiting.

        Raises:
            MembersRefused: ``no_approvers``, ``no_keyring``, ``malformed``, ``wrong_tenant``, ``forked``,
                ``already_pending``, ``bad_signature`` or ``no_quorum``.
        """
        current = self._members.keyring
        if self.approvers is None:
            raise MembersRefused("no_approvers", "no owner has named approvers")
        if current is None:
            raise MembersRefused("no_keyring", "there is no keyring to recover")
        try:
            keyring = Keyring.parse(document)
        except KeyringError as error:
            raise MembersRefused(error.code, str(error)) from None
        if keyring.tenant_id != self._tenant_id:
            raise MembersRefused("wrong_tenant", "the keyring is another tenant's")
        if keyring.version != current.version + 1 or keyring.previous != current.hash:
            raise MembersRefused("forked", "it does not follow the keyring in force")
        if self.pending is not None:
            if self.pending.keyring.hash == keyring.hash:
                return self.pending
            raise MembersRefused("already_pending", "another recovery waits; an owner or its end clears it")
        asked = recovery_document(self._tenant_id, keyring, self.approvers)
        try:
            check_quorum(self.approvers, Purpose.RECOVERY, asked, signatures, self._site)
        except ApproversError as error:
            raise MembersRefused(error.code, str(error)) from None
        begun = Pending(keyring, now, self.approvers.hash)
        self._keep(begun)
        return begun

    def object(self) -> bool:
        """End the recovery that waits; whether there was one."""
        found = self.pending is not None
        self._keep(None)
        return found

    def finish(self, now: int) -> Keyring:
        """Put the keyring in force whose notice is over.

        Raises:
            MembersRefused: ``nothing_pending`` or ``too_early``.
        """
        found = self.pending
        if found is None:
            raise MembersRefused("nothing_pending", "no recovery waits")
        if now < found.due:
            raise MembersRefused("too_early", f"not before {found.due} (seconds since 1970)")
        self._members.put_in_force(found.keyring)
        self._keep(None)
        return found.keyring

    def statement(self) -> dict[str, Any]:
        """For the status: public facts only."""
        approvers, found = self.approvers, self.pending
        return {
            "approvers": {"version": approvers.version, "hash": approvers.hash} if approvers else None,
            "recovery": {
                "keyring": found.keyring.hash,
                "fingerprints": sorted(found.keyring.members),
                "due": found.due,
            }
            if found
            else None,
        }

    def _keep(self, pending: Pending | None) -> None:
        path = self._folder / RECOVERY_FILE
        if pending is None:
            path.unlink(missing_ok=True)
        else:
            kept = {
                "keyring": pending.keyring.document,
                "began": pending.began,
                "approvers": pending.approvers,
            }
            write_atomically(path, canonical(kept))
        self._pending = pending


def _pending(document: Any) -> Pending:
    # One that was begun before the set was kept with it begins anew.
    by = str(document.get("approvers", ""))
    return Pending(Keyring.parse(document["keyring"]), int(document["began"]), by)
