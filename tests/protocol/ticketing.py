"""Tickets for the tests: who asks, who approves, and a grant that a guest believes unless it is made wrong."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from protocol.approvers import ApproverSet
from protocol.persons import Purpose, Site
from protocol.tickets import FORMAT
from tests.protocol.people import RP_ID, Passkey
from tests.protocol.test_approvers import ANN as ANN
from tests.protocol.test_approvers import BEN as BEN
from tests.protocol.test_approvers import CAT as CAT
from tests.protocol.test_approvers import the_set

PORTAL_ORIGIN = "http://portal.localhost:8000"
PORTAL_SITE = Site(RP_ID, frozenset({PORTAL_ORIGIN}))
"""Where approvals are given; a guest's own page is no such place."""
RAE = Passkey()
"""The operator who asks. Ann, Ben and Cat approve."""
TENANT_ID = "0b9a4d8e-4f53-4b0e-8f0c-8d1d5a0b7c02"
RUNTIME_ID = "6a1c3f1e-0d1b-4a55-9c1f-2f6f6f0f9a01"


def a_set(**changed: Any) -> dict[str, Any]:
    """The document of a set of Ann, Ben and Cat, with the default policy."""
    return the_set(**changed)


def a_ticket(**changed: Any) -> dict[str, Any]:
    """A ticket's document that is right now. ``set``: the document of another set than :func:`a_set`."""
    now = int(time.time())
    pinned = ApproverSet.parse(changed.pop("set", a_set()))
    return {
        "format": FORMAT,
        "ticket": str(uuid.uuid4()),
        "revision": 1,
        "kind": "ordinary",
        "tenant_id": TENANT_ID,
        "runtime_id": RUNTIME_ID,
        "requester": {"person": "user:9", "name": "Rae", "key": RAE.key.public_key.hex()},
        "reason": "The nightly job has failed twice and its log ends early.",
        "incident": "https://incidents.example/4711",
        "scopes": ["status", "workspace:read"],
        "paths": ["logs", "notes/today.txt"],
        "seconds": 1800,
        "asked_at": now,
        "wait_until": now + 3600,
        "approvers": {"version": pinned.version, "hash": pinned.hash},
        "nonce": uuid.uuid4().hex,
        **changed,
    }


def asked(document: Any, by: Passkey = RAE, **client: Any) -> dict[str, str]:
    """The requester's signature, given at the portal."""
    return by.sign(Purpose.ACCESS_REQUEST, document, **{"origin": PORTAL_ORIGIN, **client})


def approved(document: Any, by: Passkey = ANN, **client: Any) -> dict[str, str]:
    """An approver's signature, given at the portal."""
    return by.sign(Purpose.APPROVAL, document, **{"origin": PORTAL_ORIGIN, **client})


def a_grant(document: Any = None, by: Sequence[Passkey] = (ANN,), **changed: Any) -> dict[str, Any]:
    """A ticket, its request and the approvals of ``by``."""
    ticket = a_ticket() if document is None else document
    return {
        "document": ticket,
        "request": asked(ticket),
        "approvals": [approved(ticket, each) for each in by],
        "owner": None,
        **changed,
    }
