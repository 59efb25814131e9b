"""A portal that has turned, against an agent in a process of its own: every attempt, and not one byte.

The same rows meet a real guest in tests/e2e/test_malicious_portal.py.
"""

import secrets
from pathlib import Path

import pytest

from protocol.enrolment import PROXY_URI
from tests.e2e.betrayal import OPEN, SECRET, Place, betrayed
from tests.e2e.malicious.operator import Operator
from tests.e2e.malicious.portal import Portal, Way
from tests.e2e.malicious_portal import conspiracy, rampage
from tests.guest.boxes import traces
from tests.guest.conftest import Site
from tests.guest.fleet import (
    ROUTE_SEED,
    RUNTIME_ID,
    TENANT_ID,
    TOKEN_SEED,
    Agent,
    caller,
)
from tests.protocol.people import ORIGIN
from tests.protocol.ticketing import PORTAL_ORIGIN

HIDDEN = secrets.token_hex(16).encode()
SHOWN = secrets.token_hex(16).encode()


def workspace(folder: Path) -> None:
    """A file that was approved, one that was not, and links from there to here."""
    for path, text in ((OPEN, SHOWN), (SECRET, HIDDEN), ("open2/today.txt", HIDDEN)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text)
    (folder / "open" / "link").symlink_to("../" + SECRET)
    (folder / "open" / "link-to-folder").symlink_to("../closed")


def way_to(site: Site, agent: Agent) -> Way:
    names = {"proxy": PROXY_URI, "made up": "urn:managed-host-portal:root"}
    made = {
        name: caller(site.folder, name.replace(" ", "-"), site.authority, uri=uri)
        for name, uri in names.items()
    }
    identities = {name: each.context() for name, each in made.items()}
    return Way("127.0.0.1", agent.port, {**identities, "control plane": site.control_plane.context()})


def place_of(site: Site, agent: Agent) -> Place:
    return Place(way_to(site, agent), RUNTIME_ID, TENANT_ID, PORTAL_ORIGIN, ORIGIN, TOKEN_SEED, ROUTE_SEED)


@pytest.fixture
def turned(site: Site, agent: Agent) -> tuple[Portal, Operator]:
    """The portal with all that it holds, and the operator of the ticket that is open."""
    workspace(site.folder / "workspace")
    return betrayed(place_of(site, agent))


def heard(portal: Portal, secret: bytes) -> list[bytes]:
    """The answers in which a trace of ``secret`` is."""
    forms = traces(secret)
    return [one.body for one in portal.heard if any(form in one.body + one.headers for form in forms)]


def test_the_portal_alone_gets_nothing(turned: tuple[Portal, Operator]) -> None:
    """Each attempt meets the refusal that it should, and no answer holds a trace of any file."""
    portal, _ = turned
    wrong = {}
    for name, codes, may in rampage(portal):
        assert codes, f"{name} tried nothing"
        if not set(codes) <= may:
            wrong[name] = sorted(set(codes) - may)
    assert wrong == {}
    assert heard(portal, HIDDEN) == heard(portal, SHOWN) == []


def test_with_the_operator_it_gets_what_was_signed(turned: tuple[Portal, Operator]) -> None:
    """The file that the ticket names, which shows that the search finds what there is; and nothing beside it."""
    portal, operator = turned
    wrong = {}
    for name, codes, may in conspiracy(operator):
        assert codes, f"{name} tried nothing"
        if not set(codes) <= may:
            wrong[name] = sorted(set(codes) - may)
    assert wrong == {}
    assert heard(portal, HIDDEN) == []
    assert heard(portal, SHOWN)
