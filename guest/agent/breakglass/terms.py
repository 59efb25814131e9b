"""The owner's terms that this guest holds to (protocol.terms), on the data volume."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.files import read_optional, write_atomically
from guest.agent.members import Members, MembersFileError
from protocol.canonical import canonical
from protocol.persons import Site
from protocol.terms import Terms, TermsError, accept

TERMS_FILE = "terms.json"


class PinnedTerms:
    """The terms in force; ``now`` is None while no owner has signed any."""

    def __init__(self, folder: Path, members: Members, tenant_id: str, site: Site | None) -> None:
        """Raises MembersFileError: damaged. Without them a way in that an owner closed would be open."""
        self._path, self._members, self._tenant_id, self._site = (
            folder / TERMS_FILE,
            members,
            tenant_id,
            site,
        )
        stored = read_optional(self._path)
        try:
            self.now = Terms.parse(json.loads(stored)) if stored is not None else None
        except ValueError as error:
            raise MembersFileError(f"{TERMS_FILE} is damaged: {type(error).__name__}") from None

    def take(self, document: Any, signature: Mapping[str, Any]) -> Terms:
        """Put terms in force.

        Raises:
            BreakGlassRefused: with the codes of :class:`protocol.terms.TermsError`.
        """
        keyring = self._members.keyring
        try:
            found = accept(self.now, document, signature, keyring, self._tenant_id, self._site)
        except TermsError as error:
            raise BreakGlassRefused(
                422 if error.code == "malformed" else 403, error.code, str(error)
            ) from None
        if found is not self.now:
            write_atomically(self._path, canonical(found.document))
            self.now = found
        return found

    def statement(self) -> dict[str, Any] | None:
        """For the status."""
        found = self.now
        if found is None:
            return None
        return {
            "version": found.version,
            "hash": found.hash,
            "ordinary": found.ordinary,
            "emergency": found.emergency,
        }
