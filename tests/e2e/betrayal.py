"""What happened before the portal turned: an owner, approvers and an operator who did all as they should."""

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from protocol.approvers import ApproverSet
from protocol.persons import Purpose
from protocol.tickets import Ticket, rejection_document, session_document
from tests.e2e.malicious.operator import Operator
from tests.e2e.malicious.portal import OK, Answer, Document, Loot, Portal, Way
from tests.protocol.people import OWNER, Passkey, entry, keyring, naming
from tests.protocol.ticketing import ANN, BEN, CAT, RAE, a_grant, a_set, a_ticket, approved, asked

OPEN, SECRET = "open/today.txt", "closed/plan.txt"
"""Below the workspace: what the open ticket covers, and what it does not."""


@dataclass(frozen=True)
class Place:
    """Which guest, and how it is reached."""

    way: Way
    runtime_id: str
    tenant_id: str
    portal_origin: str
    guest_origin: str
    token_seed: bytes
    route_seed: bytes
    trust: Document


def betrayed(place: Place, ring: Document | None = None) -> tuple[Portal, Operator]:
    """A guest with a past, the portal that holds all of it, and the operator who is inside at this moment.

    ``ring``: the owner's keyring with its signature, where the guest has it already.
    """
    story = _Story(place)
    loot = story.told(ring or story.pin())
    portal = Portal(loot, place.way)
    return portal, Operator(portal, story.cookie)


class _Story:
    def __init__(self, place: Place) -> None:
        self.place, self.cookie = place, ""
        self._portal = Portal(nothing(place), place.way)

    def pin(self) -> Document:
        """The owner's keyring."""
        document = keyring(self.place.tenant_id, entry(OWNER.key))
        ring = {"document": document, "signature": OWNER.sign(Purpose.KEYRING, document)}
        well(self._portal.ask("PUT", "/v1/keyring", ring))
        return ring

    def told(self, ring: Document) -> Loot:
        sets = self._sets()
        for each in sets:
            well(self._portal.ask("PUT", "/v1/approvers", each))
        terms = [self._terms(1, "owner", "owner"), self._terms(2, "approvers", "closed")]
        for each in terms:
            well(self._portal.ask("PUT", "/v1/terms", each))
        pinned = sets[-1]["document"]
        past = self._grant(pinned)
        well(self._portal.grant(past))
        session(self._portal, past)
        well(self._portal.ask("POST", "/v1/grants/end", {"ticket": past["document"]["ticket"]}))
        active = self._grant(pinned)
        well(self._portal.grant(active))
        overheard, old = session(self._portal, active)
        _, self.cookie = session(self._portal, active)
        now = int(time.time())
        lapsed = self._grant(pinned, asked_at=now - 7200, wait_until=now - 3600)
        waiting = self._grant(pinned, scopes=["exec"], paths=[""])
        elsewhere = self._grant(pinned, tenant_id=str(uuid.uuid4()), runtime_id=str(uuid.uuid4()))
        return Loot(
            runtime_id=self.place.runtime_id,
            tenant_id=self.place.tenant_id,
            guest_origin=self.place.guest_origin,
            portal_origin=self.place.portal_origin,
            token_seed=self.place.token_seed,
            route_seed=self.place.route_seed,
            trust=self.place.trust,
            keyring=ring,
            approvers=sets,
            terms=terms,
            past=past,
            active=active,
            waiting=waiting,
            lapsed=lapsed,
            elsewhere=elsewhere,
            rejection=self._rejection(waiting),
            phished=phished(self.place, waiting["document"]),
            overheard=overheard,
            lure=lure(self.place, RAE),
            cookie=old,
            open_path=OPEN,
            secret_path=SECRET,
        )

    def _sets(self) -> list[Document]:
        """Named by the owner, then changed by a quorum."""
        first = a_set(threshold=3)
        second = a_set(version=2, previous=ApproverSet.parse(first).hash)
        origin = self.place.portal_origin
        quorum = [each.sign(Purpose.APPROVERS, second, origin=origin) for each in (ANN, BEN, CAT)]
        return [
            {"document": first, "signatures": [naming(OWNER, first, self.place.tenant_id)]},
            {"document": second, "signatures": quorum},
        ]

    def _terms(self, version: int, ordinary: str, emergency: str) -> Document:
        modes = {"ordinary": ordinary, "emergency": emergency}
        document = {"version": version, "tenant_id": self.place.tenant_id, **modes}
        return {"document": document, "signature": OWNER.sign(Purpose.TERMS, document)}

    def _grant(self, pinned: Document, **changed: Any) -> Document:
        place = self.place
        usual: dict[str, Any] = {"tenant_id": place.tenant_id, "runtime_id": place.runtime_id}
        usual |= {"scopes": ["workspace:read"], "paths": ["open"]}
        document = a_ticket(set=pinned, **{**usual, **changed})
        origin = place.portal_origin
        request, approval = asked(document, origin=origin), approved(document, origin=origin)
        return a_grant(document, request=request, approvals=[approval])

    def _rejection(self, grant: Document) -> Document:
        said = rejection_document(Ticket.parse(grant["document"]))
        return BEN.sign(Purpose.REJECTION, said, origin=self.place.portal_origin)


def session(portal: Portal, grant: Document, by: Passkey = RAE) -> tuple[Document, str]:
    """The requester signs in, in the guest: what the proxy saw of it, and the cookie."""
    nonce = portal.challenge(grant)
    document = session_document(nonce, Ticket.parse(grant["document"]))
    signature = by.sign(Purpose.ACCESS, document, origin=portal.loot.guest_origin)
    answer = well(portal.begin(grant, nonce, signature))
    found = re.search(rb"__Host-bg=([^;]+)", answer.headers)
    assert found
    return {**signature, "nonce": nonce}, found[1].decode()


def phished(place: Place, document: Document, by: Passkey = CAT) -> dict[str, Document]:
    """Approvals by somebody who would make the quorum, and whom a page has deceived."""
    right = {"origin": place.portal_origin}
    wrong: Mapping[str, dict[str, Any]] = {
        "the guest's own page": {"origin": place.guest_origin},
        "a sibling's page": {"origin": place.guest_origin.replace("//", "//x")},
        "a stranger's page": {"origin": "https://portal.example"},
        "no origin": {"origin": None},
        "another relying party": {**right, "rp_id": "portal.example"},
        "in a frame": {**right, "crossOrigin": True},
        "user not verified": {**right, "flags": 0x01},
        "user not present": {**right, "flags": 0x04},
        "a registration": {**right, "type": "webauthn.create"},
    }
    return {name: by.sign(Purpose.APPROVAL, document, **client) for name, client in wrong.items()}


def lure(place: Place, who: Passkey) -> Callable[[Purpose, Document], Document]:
    """How somebody signs who trusts the portal's page."""

    def signed(purpose: Purpose, document: Document) -> Document:
        return who.sign(purpose, document, origin=place.portal_origin)

    return signed


def well(answer: Answer) -> Answer:
    """What honest people do succeeds."""
    assert answer.code == OK, (answer.status, answer.body)
    return answer


def nothing(place: Place) -> Loot:
    """A portal that has no past."""
    empty: dict[str, Any] = {name: {} for name in ("trust", "keyring", "past", "active", "waiting", "lapsed")}
    empty |= {name: {} for name in ("elsewhere", "rejection", "phished", "overheard")}
    return Loot(
        runtime_id=place.runtime_id,
        tenant_id=place.tenant_id,
        guest_origin=place.guest_origin,
        portal_origin=place.portal_origin,
        token_seed=place.token_seed,
        route_seed=place.route_seed,
        approvers=[],
        terms=[],
        lure=lure(place, RAE),
        cookie="",
        open_path=OPEN,
        secret_path=SECRET,
        **empty,
    )
