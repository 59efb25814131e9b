"""A control plane that has turned against a tenant: all its keys, all its rows, and what it does with them.

It holds the fleet's CA key, the keys that sign tokens, every stored ticket with every signature, the approver
sets, the owner's terms and keyring, and whatever went by its own proxy. It talks to the tenant's guest and tries,
one after another, the rows of ``ATTEMPTS`` (malicious/forgeries.py and malicious/doors.py). Each row names the
refusals that it must meet, so that an attempt which fails for another reason than the one it tests is seen.
``Portal.heard`` keeps every byte that came back.

The rows of ``IN_LEAGUE`` (malicious/operator.py) go further: the requester of a ticket that approvers did sign works
with the portal.
They get what was signed, and nothing beside it.

It cannot do what whoever holds the hypervisor can; see docs/threat-model.md.
"""

from collections.abc import Iterator

from tests.e2e.malicious import doors, forgeries
from tests.e2e.malicious.operator import IN_LEAGUE, Operator
from tests.e2e.malicious.portal import ATTEMPTS, Portal

MODULES = (forgeries, doors)
"""Their import fills the table."""


def rampage(portal: Portal) -> Iterator[tuple[str, list[str], frozenset[str]]]:
    """Try everything: the row's name, the codes that came back, and those that may."""
    for name, (codes, tried) in ATTEMPTS.items():
        yield name, [answer.code for answer in tried(portal)], codes


def conspiracy(operator: Operator) -> Iterator[tuple[str, list[str], frozenset[str]]]:
    """Try everything, as :func:`rampage` does."""
    for name, (codes, tried) in IN_LEAGUE.items():
        yield name, [answer.code for answer in tried(operator)], codes
