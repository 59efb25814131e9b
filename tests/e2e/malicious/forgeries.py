"""Attempts on what the guest believes: approvals, tickets, approver sets, terms and keyrings."""

import time
import uuid
from collections.abc import Iterator

from protocol.approvers import ApproverSet, naming_document
from protocol.persons import Purpose
from tests.e2e.malicious.portal import (
    OK,
    Answer,
    Document,
    Portal,
    approvers_of,
    attempt,
    hash_of,
    own_set,
    owner_of,
    renewed,
    routes_under,
)
from tests.protocol.people import entry

# Approvals that nobody gave


@attempt("bad_signature")
def approvals_by_its_own_passkey(portal: Portal) -> Iterator[Answer]:
    """Under its own fingerprint, and under that of each approver."""
    document = portal.loot.waiting["document"]
    own = portal.signed(document, Purpose.APPROVAL)
    names = [own["by"], *approvers_of(portal)]
    for name in names:
        yield portal.grant(portal.loot.waiting, approvals=[{**own, "by": name}])
    yield portal.grant(portal.loot.waiting, approvals=[*portal.loot.waiting["approvals"], own])


@attempt("no_quorum")
def too_few(portal: Portal) -> Iterator[Answer]:
    """None at all, one where two are needed, and the same one twice."""
    one = portal.loot.waiting["approvals"]
    tries: list[list[Document]] = [[], one, one * 2, one * 30]
    for approvals in tries:
        yield portal.grant(portal.loot.waiting, approvals=approvals)


@attempt("bad_signature")
def approvals_of_something_else(portal: Portal) -> Iterator[Answer]:
    """Of another ticket, another tenant's, a rejection, a request, an approver set, a session."""
    loot = portal.loot
    real = loot.waiting["approvals"]
    others = [
        *loot.past["approvals"],
        *loot.active["approvals"],
        *loot.elsewhere["approvals"],
        *loot.approvers[-1]["signatures"],
        loot.rejection,
        loot.waiting["request"],
        loot.overheard,
    ]
    for other in others:
        yield portal.grant(loot.waiting, approvals=[*real, other])
    for other in others:
        for name in approvers_of(portal):
            yield portal.grant(loot.waiting, approvals=[*real, {**other, "by": name}])


@attempt("bad_signature")
def approvals_given_in_the_wrong_place(portal: Portal) -> Iterator[Answer]:
    """On the guest's own page, a sibling's, a stranger's, with another RP id, in a frame, without verification."""
    for signature in portal.loot.phished.values():
        yield portal.grant(portal.loot.waiting, approvals=[*portal.loot.waiting["approvals"], signature])


@attempt("malformed")
def approvals_in_fields_of_its_own(portal: Portal) -> Iterator[Answer]:
    """State instead of signatures, wherever a careless reader might look for it."""
    waiting = portal.loot.waiting
    for lie in (
        {"approved": True},
        {"state": "approved"},
        {"people": ["user:1", "user:2"]},
        {"approvals": True},
        {"approvals": ["user:1", "user:2"]},
        {"approvals": {"user:1": True}},
        {"document": {**waiting["document"], "approved": True}},
        {"document": {**waiting["document"], "needed": 0}},
        {"document": {**waiting["document"], "scopes": []}},
        {"approvals": waiting["approvals"] * 33},
    ):
        yield portal.grant(waiting, **lie)


# Tickets that nobody approved


EDITS: list[Document] = [
    {"paths": [""]},
    {"seconds": 14400},
    {"scopes": ["exec", "logs:read", "status", "workspace:read", "workspace:write"], "paths": [""]},
    {"revision": 7},
    {"reason": "Nothing to see here, really nothing at all."},
    {"wait_until": 2**40},
]


@attempt("bad_request_signature", "malformed")
def edited_tickets(portal: Portal) -> Iterator[Answer]:
    """More paths, more scopes, more time, another revision: each member is under the requester's signature."""
    for grant in (portal.loot.waiting, portal.loot.lapsed):
        for edit in EDITS:
            document = {**grant["document"], **edit}
            if document != grant["document"]:
                yield portal.grant(grant, document=document)


@attempt("bad_signature")
def itself_as_requester(portal: Portal) -> Iterator[Answer]:
    """Its own passkey may ask for what was once approved; but those approvals were for somebody else's request."""
    for grant in (portal.loot.lapsed, portal.loot.past, portal.loot.active):
        document = renewed(portal, grant["document"])
        yield portal.grant(grant, document=document, request=portal.signed(document, Purpose.ACCESS_REQUEST))


@attempt("bad_signature")
def an_approver_as_requester(portal: Portal) -> Iterator[Answer]:
    """Its own key under an approver's name, with that approver's old approval."""
    loot = portal.loot
    for one in loot.approvers[-1]["document"]["approvers"]:
        requester = {"person": one["person"], "name": one["name"], "key": portal.me.key.public_key.hex()}
        document = renewed(portal, loot.lapsed["document"]) | {"requester": requester}
        request = portal.signed(document, Purpose.ACCESS_REQUEST)
        yield portal.grant(loot.lapsed, document=document, request=request)


@attempt("wrong_set")
def a_set_of_its_own_in_the_ticket(portal: Portal) -> Iterator[Answer]:
    """A ticket under a set that it made, and under each older one, all signatures in perfect order."""
    loot = portal.loot
    sets = [
        own_set(portal, loot.approvers[-1]["document"]["version"]),
        *[s["document"] for s in loot.approvers[:-1]],
    ]
    for pinned in sets:
        named = {"version": pinned["version"], "hash": hash_of(pinned)}
        document = renewed(portal, loot.waiting["document"]) | {"approvers": named}
        yield portal.grant(
            loot.waiting,
            document=document,
            request=portal.signed(document, Purpose.ACCESS_REQUEST),
            approvals=[portal.signed(document, Purpose.APPROVAL)],
        )


# Tickets of another place or time


@attempt("ended")
def a_past_ticket_again(portal: Portal) -> Iterator[Answer]:
    """As it was. And what it opened then."""
    yield portal.grant(portal.loot.past)
    for method, path, body in routes_under(portal):
        yield portal.ask_under(portal.loot.past, method, path, body, cookie=portal.loot.cookie)


@attempt("ended", "bad_request_signature")
def a_past_ticket_with_new_times(portal: Portal) -> Iterator[Answer]:
    """Under its own name it has ended; under a new one nobody has asked."""
    past, now = portal.loot.past, int(time.time())
    times = {"asked_at": now, "wait_until": now + 3600}
    yield portal.grant(past, document={**past["document"], **times})
    yield portal.grant(past, document={**past["document"], **times, "ticket": str(uuid.uuid4())})


@attempt("too_late", "no_grant")
def a_lapsed_ticket(portal: Portal) -> Iterator[Answer]:
    """Approved by enough people, too late to be used."""
    yield portal.grant(portal.loot.lapsed)
    yield portal.ask_under(portal.loot.lapsed, "POST", "/v1/break-glass/challenge", {})


@attempt("wrong_tenant", "wrong_runtime", "bad_request_signature")
def another_tenants_ticket(portal: Portal) -> Iterator[Answer]:
    """Approved by the same people; for another guest."""
    loot, grant = portal.loot, portal.loot.elsewhere
    yield portal.grant(grant)
    yield portal.grant(grant, document={**grant["document"], "tenant_id": loot.tenant_id})
    both = {"tenant_id": loot.tenant_id, "runtime_id": loot.runtime_id}
    yield portal.grant(grant, document={**grant["document"], **both})


@attempt(OK)
def the_active_ticket_again(portal: Portal) -> Iterator[Answer]:
    """The same answer, and no second life: the time goes on."""
    first, second = portal.grant(portal.loot.active), portal.grant(portal.loot.active)
    assert first.document == second.document
    yield from (first, second)


@attempt("another_revision")
def another_revision_of_the_active_ticket(portal: Portal) -> Iterator[Answer]:
    """One at a time."""
    document = {**portal.loot.active["document"], "revision": 9, "paths": [""]}
    yield portal.grant(portal.loot.active, document=document)


# Who approvers are, and what the owner said


@attempt("forked", "bad_signature", "no_quorum", "rolled_back", "version_skipped")
def a_set_of_its_own(portal: Portal) -> Iterator[Answer]:
    """In place of the one in force, after it, far after it; unsigned, by itself, by real signatures of another set."""
    loot = portal.loot
    now = loot.approvers[-1]["document"]
    follows = {"version": now["version"] + 1, "previous": hash_of(now)}
    for document in (
        own_set(portal, now["version"]),
        own_set(portal, 1),
        own_set(portal, now["version"]) | follows,
        {**now, **follows, "threshold": 1, "policy": dict.fromkeys(now["policy"], 1)},
        own_set(portal, now["version"]) | {**follows, "version": now["version"] + 5},
    ):
        own = portal.signed(document, Purpose.APPROVERS)
        named = naming_document(loot.tenant_id, ApproverSet.parse(document))
        owner = portal.device.sign(Purpose.NAMING, named) | {"by": owner_of(portal)}
        for signatures in (
            [],
            [own],
            [{**own, "by": name} for name in approvers_of(portal)],
            [owner],
            loot.approvers[0]["signatures"],
            loot.approvers[-1]["signatures"],
            loot.waiting["approvals"],
        ):
            yield portal.ask("PUT", "/v1/approvers", {"document": document, "signatures": signatures})


@attempt("rolled_back")
def an_old_set(portal: Portal) -> Iterator[Answer]:
    """With the very signatures with which it was once in force."""
    for old in portal.loot.approvers[:-1]:
        yield portal.ask("PUT", "/v1/approvers", old)


@attempt("rolled_back", "forked", "not_an_owner", "bad_signature")
def terms_of_its_own(portal: Portal) -> Iterator[Answer]:
    """The owner's old ones, and new ones by itself."""
    loot = portal.loot
    for old in loot.terms[:-1]:
        yield portal.ask("PUT", "/v1/terms", old)
    now = loot.terms[-1]["document"]
    for version in (now["version"], now["version"] + 1):
        document = {**now, "version": version, "ordinary": "approvers", "emergency": "approvers"}
        own = portal.device.sign(Purpose.TERMS, document)
        for signature in (own, {**own, "by": owner_of(portal)}, loot.terms[-1]["signature"]):
            yield portal.ask("PUT", "/v1/terms", {"document": document, "signature": signature})


@attempt("not_an_owner", "bad_signature", "no_quorum")
def a_keyring_of_its_own(portal: Portal) -> Iterator[Answer]:
    """With itself as an owner; and by way of recovery, with approvals that were given for other things."""
    loot, before = portal.loot, portal.loot.keyring["document"]
    document = {
        **before,
        "version": before["version"] + 1,
        "previous": hash_of(before),
        "members": [*before["members"], entry(portal.device.key)],
    }
    own = portal.device.sign(Purpose.KEYRING, document)
    for signature in (own, {**own, "by": owner_of(portal)}, loot.keyring["signature"]):
        yield portal.ask("PUT", "/v1/keyring", {"document": document, "signature": signature})
    none: list[Document] = []
    for signatures in (none, loot.active["approvals"], loot.approvers[-1]["signatures"]):
        yield portal.ask("PUT", "/v1/recovery", {"keyring": document, "signatures": signatures})
