"""A portal that has turned, against an agent in a process of its own: every attempt, and not one byte.

The same rows meet a real guest in tests/e2e/test_malicious_portal.py.
"""

import secrets
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from protocol.access_receipts import Position, Receipt
from protocol.approvers import ApproverSet, naming_document
from protocol.enrolment import PROXY_URI
from protocol.persons import PersonKey, Purpose
from tests.e2e.betrayal import OPEN, SECRET, Place, betrayed, nothing
from tests.e2e.malicious.operator import Operator
from tests.e2e.malicious.portal import OK, Portal, Way
from tests.e2e.malicious_portal import conspiracy, heard, rampage
from tests.guest.conftest import Site
from tests.guest.fleet import ROUTE_SEED, RUNTIME_ID, TENANT_ID, TOKEN_SEED, Agent, caller, running, trust
from tests.protocol.people import MEMBER, ORIGIN, OWNER, Device, entry, keyring, naming, spellings
from tests.protocol.ticketing import ANN, BEN, PORTAL_ORIGIN, a_grant, a_set, a_ticket, asked

HIDDEN = secrets.token_hex(16).encode()
SHOWN = secrets.token_hex(16).encode()


def fill(workspace: Path) -> None:
    """A file that was approved, one that was not, and links from there to here."""
    for path, text in ((OPEN, SHOWN), (SECRET, HIDDEN), ("open2/today.txt", HIDDEN)):
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_bytes(text)
    (workspace / "open" / "link").symlink_to("../" + SECRET)
    (workspace / "open" / "link-to-folder").symlink_to("../closed")


def files(workspace: Path) -> dict[str, bytes]:
    """What is there."""
    return {str(path): path.read_bytes() for path in workspace.rglob("*") if path.is_file()}


def place_of(site: Site, agent: Agent) -> Place:
    names = {"proxy": PROXY_URI, "made up": "urn:managed-host-portal:root"}
    made = {
        name: caller(site.folder, name.replace(" ", "-"), site.authority, uri=uri).context()
        for name, uri in names.items()
    }
    way = Way("127.0.0.1", agent.port, {**made, "control plane": site.control_plane.context()})
    believed = asdict(trust(site.authority))
    return Place(way, RUNTIME_ID, TENANT_ID, PORTAL_ORIGIN, ORIGIN, TOKEN_SEED, ROUTE_SEED, believed)


@pytest.fixture
def turned(site: Site, agent: Agent) -> tuple[Portal, Operator]:
    """The portal with all that it holds, and the operator of the ticket that is open."""
    fill(site.folder / "workspace")
    return betrayed(place_of(site, agent))


def test_the_portal_alone_gets_nothing(site: Site, turned: tuple[Portal, Operator]) -> None:
    """Each attempt meets the refusals that it should; no answer holds a trace of a file, and no file changes."""
    portal, _ = turned
    before = files(site.folder / "workspace")
    tried = rampage(portal)
    assert [one for one in tried if not one.as_it_must] == []
    assert heard(portal, HIDDEN) == heard(portal, SHOWN) == []
    assert files(site.folder / "workspace") == before
    assert sum(len(one.codes) for one in tried) > 500


def test_a_guest_that_no_owner_has_let_anybody_into(site: Site, agent: Agent) -> None:
    """Before the first set: none of the portal's own, and no signature that an owner gave for something else."""
    place = place_of(site, agent)
    portal = Portal(nothing(place), place.way)
    ring = keyring(TENANT_ID, entry(OWNER.key), entry(MEMBER.key, "member"))
    signed = OWNER.sign(Purpose.KEYRING, ring)
    assert portal.ask("PUT", "/v1/keyring", {"document": ring, "signature": signed}).code == OK
    first = a_set()
    own = portal.device.sign(Purpose.NAMING, naming_document(TENANT_ID, ApproverSet.parse(first)))
    lies = [
        own,
        own | {"by": OWNER.key.fingerprint},
        naming(MEMBER, first, TENANT_ID),
        naming(OWNER, first, str(uuid.uuid4())),
        naming(OWNER, a_set(threshold=3), TENANT_ID),
        OWNER.sign(Purpose.APPROVERS, first),
        *(each.sign(Purpose.APPROVERS, first, origin=PORTAL_ORIGIN) for each in (ANN, BEN)),
    ]
    answers = [portal.ask("PUT", "/v1/approvers", {"document": first, "signatures": [lie]}) for lie in lies]
    expected = (
        ["not_an_owner", "bad_signature", "not_an_owner"] + ["bad_signature"] * 3 + ["not_an_owner"] * 2
    )
    assert [one.code for one in answers] == expected
    assert portal.grant(a_grant(by=[ANN, BEN])).code == "no_approvers"
    named = {"document": first, "signatures": [naming(OWNER, first, TENANT_ID)]}
    assert portal.ask("PUT", "/v1/approvers", named).code == OK
    assert portal.grant(a_grant(by=[ANN, BEN])).code == OK


@pytest.mark.parametrize("how", ["compressed", "hybrid"])
def test_an_approver_in_league(turned: tuple[Portal, Operator], how: str) -> None:
    """Who asks with the very passkey that approves, spelt anew, is still one person."""
    portal, _ = turned
    key = PersonKey("passkey", spellings(ANN.key)[how])
    for named in (key.public_key, ANN.key.public_key):
        requester = {"person": "user:999", "name": "Rae", "key": named.hex()}
        document = a_ticket(set=portal.loot.approvers[-1]["document"], requester=requester)
        by = PersonKey("passkey", named).fingerprint
        grant = a_grant(document, [ANN], request=asked(document, ANN) | {"by": by})
        assert portal.grant(grant).code == ("malformed" if named == key.public_key else "own_approval")


def test_the_owners_terms(turned: tuple[Portal, Operator]) -> None:
    """Where they say closed, no approval helps; where they want the owner, nobody else's signature does."""
    portal, _ = turned
    now = portal.loot.terms[-1]["document"]
    modes = {"ordinary": "owner", "emergency": "closed"}
    terms = now | modes | {"version": now["version"] + 1}
    signed = {"document": terms, "signature": OWNER.sign(Purpose.TERMS, terms)}
    assert portal.ask("PUT", "/v1/terms", signed).code == OK
    pinned = portal.loot.approvers[-1]["document"]

    def asks(owner: Any = None, **more: Any) -> str:
        document = a_ticket(set=pinned, **more)
        given = None if owner is None else owner(document)
        return portal.grant(a_grant(document, by=[ANN, BEN], owner=given)).code

    def of(by: Device, purpose: Purpose = Purpose.OWNER_APPROVAL) -> Callable[[Any], Any]:
        return lambda document: by.sign(purpose, document)

    other = a_ticket(set=pinned)
    own = portal.device.sign(Purpose.OWNER_APPROVAL, other)
    assert asks(kind="emergency", seconds=600) == "closed"
    assert asks(of(OWNER), kind="emergency", seconds=600) == "closed"
    assert asks() == "owner_missing"
    lies = [
        of(MEMBER),
        of(OWNER, Purpose.APPROVAL),
        lambda document: portal.device.sign(Purpose.OWNER_APPROVAL, document) | {"by": OWNER.key.fingerprint},
        lambda _: OWNER.sign(Purpose.OWNER_APPROVAL, other),
        lambda _: own,
    ]
    assert [asks(lie) for lie in lies] == ["bad_signature"] * 5
    late = int(time.time()) + 3600
    assert asks(of(OWNER), asked_at=late, wait_until=late + 60) == "too_early"
    assert asks(of(OWNER)) == OK


def test_with_the_operator_it_gets_what_was_signed(site: Site, turned: tuple[Portal, Operator]) -> None:
    """The file that the ticket names, which shows that the search finds what there is; and nothing beside it."""
    portal, operator = turned
    before = files(site.folder / "workspace")
    assert [one for one in conspiracy(operator) if not one.as_it_must] == []
    assert heard(portal, SHOWN)
    assert heard(portal, HIDDEN) == []
    assert files(site.folder / "workspace") == before


def test_after_the_end(turned: tuple[Portal, Operator]) -> None:
    """The operator's own session is worth nothing a moment later, and no grant brings it back."""
    portal, operator = turned
    assert operator.read(OPEN).code == OK
    ticket = portal.loot.active["document"]["ticket"]
    assert portal.ask("POST", "/v1/grants/end", {"ticket": ticket}).code == OK
    assert operator.read(OPEN).code == "ended"
    assert portal.grant(portal.loot.active).code == "ended"
    assert portal.ask("POST", "/v1/grants/end", {"ticket": ticket}).document["ended"] is False
    assert operator.read(OPEN).code == "ended"


def test_other_closings(turned: tuple[Portal, Operator]) -> None:
    """Suspended and opened again, which is the portal's to do: what was open does not come back."""
    portal, operator = turned
    for suspended in (True, False):
        assert portal.ask("PUT", "/v1/suspended", {"suspended": suspended}).code == OK
    assert operator.read(OPEN).code == "ended"
    assert portal.grant(portal.loot.active).code == "ended"


@contextmanager
def again(site: Site, portal: Portal) -> Iterator[Portal]:
    """The machine starts anew, and the portal finds it at its new port."""
    with running(site.personalisation, site.data) as agent:
        portal.way.port = agent.port
        yield portal


def positions(portal: Portal) -> list[Position]:
    """Number and hash of each receipt."""
    receipts = portal.ask("GET", "/v1/receipts").document["receipts"]
    return [Receipt.parse(each).position for each in receipts]


def challenge_of(portal: Portal) -> str:
    """That the grant stands: the door gives a nonce."""
    return portal.challenge(portal.loot.active)


def test_after_a_restart(site: Site) -> None:
    """The ticket is still open, but wants its requester again; what ended has ended; each token is spent."""
    fill(site.folder / "workspace")
    path = f"/v1/break-glass/files?path={OPEN}"
    with running(site.personalisation, site.data) as agent:
        portal, operator = betrayed(place_of(site, agent))
        token = portal.glass("GET", path, b"", portal.loot.active)
        assert operator.portal.ask("GET", path, token=token, headers=_cookie(operator)).code == OK
    with again(site, portal):
        assert challenge_of(portal)
        assert operator.read(OPEN).code == "session_required"
        spent = portal.ask("GET", path, token=token, headers=_cookie(operator)).code
        assert spent in {"token_replayed", "token_expired"}
        assert portal.grant(portal.loot.past).code == "ended"
        heard_before = portal.begin(portal.loot.active, portal.loot.overheard["nonce"], portal.loot.overheard)
        assert heard_before.code == "nonce_unknown"


def test_after_a_restored_disk(site: Site) -> None:
    """The disk of before the end opens the ticket again, and only for its requester; the receipts tell."""
    fill(site.folder / "workspace")
    with running(site.personalisation, site.data) as agent:
        portal, operator = betrayed(place_of(site, agent))
        assert operator.read(OPEN).code == OK
    shutil.copytree(site.data, site.folder / "snapshot")
    with again(site, portal):
        ticket = portal.loot.active["document"]["ticket"]
        assert portal.ask("POST", "/v1/grants/end", {"ticket": ticket}).code == OK
        before = positions(portal)
    shutil.rmtree(site.data)
    shutil.copytree(site.folder / "snapshot", site.data)
    portal.heard.clear()
    with again(site, portal):
        assert operator.read(OPEN).code == "session_required"
        old = portal.loot.overheard | {"nonce": challenge_of(portal)}
        assert portal.begin(portal.loot.active, old["nonce"], old).code == "bad_signature"
        assert before[-1] not in positions(portal)
    assert heard(portal, SHOWN) == []


def _cookie(operator: Operator) -> dict[str, str]:
    return {"Cookie": f"__Host-bg={operator.cookie}"}
