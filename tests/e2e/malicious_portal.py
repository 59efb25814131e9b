"""A control plane that has turned against a tenant: all its keys, all its rows, and what it does with them.

It holds the fleet's CA key, the keys that sign tokens, every stored ticket with every signature, the approver
sets, the owner's terms and keyring, and whatever went by its own proxy. It talks to the tenant's guest and tries,
one after another, the rows of ``ATTEMPTS`` (malicious/forgeries.py and malicious/doors.py). Each row names the
refusals that it must meet, so that an attempt which fails for another reason than the one it tests is seen.
``Portal.heard`` keeps every byte that came back.

The rows of ``IN_LEAGUE`` (malicious/operator.py) go further: the requester of a ticket that approvers did sign works
with the portal. They get what was signed, and nothing beside it.

It cannot do what whoever holds the hypervisor can; see docs/threat-model.md.
"""

from dataclasses import dataclass

from tests.e2e.malicious import doors, forgeries
from tests.e2e.malicious.operator import IN_LEAGUE, Operator, links_that_lead_out
from tests.e2e.malicious.portal import ATTEMPTS, Portal
from tests.guest.boxes import traces

MODULES = (forgeries, doors)
"""Their import fills the table."""


@dataclass(frozen=True)
class Tried:
    """One row of a table, and what came back."""

    name: str
    codes: tuple[str, ...]
    """Of each answer."""
    expected: frozenset[str]

    @property
    def as_it_must(self) -> bool:
        """Each answer is a refusal that the row names, and each refusal that it names was met."""
        return set(self.codes) == self.expected


def rampage(portal: Portal) -> list[Tried]:
    """The portal alone."""
    return [
        Tried(name, tuple(answer.code for answer in tried(portal)), codes)
        for name, (codes, tried) in ATTEMPTS.items()
    ]


def conspiracy(operator: Operator, *, links: bool = True) -> list[Tried]:
    """With the operator. ``links``: whether the workspace has links that lead out of what was approved."""
    return [
        Tried(name, tuple(answer.code for answer in tried(operator)), codes)
        for name, (codes, tried) in IN_LEAGUE.items()
        if links or tried is not links_that_lead_out
    ]


def heard(portal: Portal, secret: bytes) -> list[bytes]:
    """The answers with a trace of ``secret``, in whatever form."""
    forms = traces(secret)
    return [one.body for one in portal.heard if any(form in one.body + one.headers for form in forms)]
