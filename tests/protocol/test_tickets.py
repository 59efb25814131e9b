"""The ticket and its judge: what a guest believes, and each way in which it must not."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.approvers import ApproverSet
from protocol.canonical import canonical
from protocol.keyrings import Keyring
from protocol.persons import PersonKey, Purpose
from protocol.terms import Terms
from protocol.tickets import (
    CLOCK_LEEWAY_SECONDS,
    MAX_GRANT_BYTES,
    Grant,
    Judged,
    Ticket,
    TicketRefused,
    check_approval,
    check_standing,
    judge,
    last_end,
    may_approve,
    needed,
    rejection_document,
    session_document,
)
from tests.protocol.people import MEMBER, ORIGIN, OWNER, Passkey, entry, keyring, spellings
from tests.protocol.test_approvers import ANN, BEN, CAT, EVE, approver
from tests.protocol.ticketing import (
    PORTAL_ORIGIN,
    PORTAL_SITE,
    RAE,
    RUNTIME_ID,
    TENANT_ID,
    a_grant,
    a_set,
    a_ticket,
    approved,
    asked,
)

RING = Keyring.parse(keyring(TENANT_ID, entry(OWNER.key), entry(MEMBER.key, "member")))
PINNED = ApproverSet.parse(a_set())


def terms(ordinary: str = "approvers", emergency: str = "approvers") -> Terms:
    return Terms.parse({"version": 1, "tenant_id": TENANT_ID, "ordinary": ordinary, "emergency": emergency})


def judged(grant: Any, **changed: Any) -> Judged:
    usual: dict[str, Any] = {
        "approvers": PINNED,
        "keyring": RING,
        "terms": None,
        "tenant_id": TENANT_ID,
        "runtime_id": RUNTIME_ID,
        "site": PORTAL_SITE,
        "now": int(time.time()),
    }
    return judge(Grant.parse(grant), **{**usual, **changed})


def refused(code: str, grant: Any, **changed: Any) -> None:
    with pytest.raises(TicketRefused) as caught:
        judged(grant, **changed)
    assert caught.value.code == code, caught.value


def test_an_honest_grant() -> None:
    """One approval reads, and the judge says who gave it."""
    document = a_ticket()
    found = judged(a_grant(document))
    assert (found.people, found.owner) == (frozenset({"ann"}), None)
    assert found.ticket == Ticket.parse(json.loads(canonical(document)))
    assert last_end(found.ticket) == document["wait_until"] + document["seconds"]


# Whose ticket it is


def test_another_tenants_or_guests() -> None:
    elsewhere = "11111111-1111-4111-8111-111111111111"
    refused("wrong_tenant", a_grant(a_ticket(tenant_id=elsewhere)))
    refused("wrong_runtime", a_grant(a_ticket(runtime_id=elsewhere)))


def test_another_set() -> None:
    """Version and hash both: an older set, a newer one, and a forged one of the same version."""
    refused("no_approvers", a_grant(), approvers=None)
    newer = a_set(version=2, previous=PINNED.hash)
    refused("wrong_set", a_grant(), approvers=ApproverSet.parse(newer))
    refused("wrong_set", a_grant(a_ticket(set=newer)))
    forged = a_set(approvers=[approver(EVE, "ann"), approver(BEN, "ben"), approver(CAT, "cat")])
    refused("wrong_set", a_grant(a_ticket(set=forged), [EVE]))
    refused("wrong_set", a_grant(a_ticket(approvers={"version": 2, "hash": PINNED.hash})))


# Who asked


def test_the_requester_must_have_asked() -> None:
    document = a_ticket()
    for request in (
        asked(document, EVE),
        asked(document, EVE) | {"by": RAE.key.fingerprint},
        asked(document) | {"by": EVE.key.fingerprint},
        asked(a_ticket()),
        approved(document, RAE),
        asked(document, origin=ORIGIN),
        asked(document, rp_id="elsewhere.example"),
        asked(document, flags=0x01),
        {},
    ):
        refused("bad_request_signature", a_grant(document, request=request))


# Who approved


def test_each_approval_must_hold() -> None:
    """A bad one refuses all, whoever else signed."""
    document = a_ticket()
    for bad in (
        approved(document, EVE),
        approved(document, EVE) | {"by": BEN.key.fingerprint},
        approved(a_ticket(), BEN),
        approved(document | {"paths": ["logs"]}, BEN),
        approved(document, BEN, type="webauthn.create"),
        approved(document, BEN, origin=ORIGIN),
        approved(document, BEN, origin="http://evil.example"),
        approved(document, BEN, crossOrigin=True),
        approved(document, BEN, rp_id="localhost"),
        approved(document, BEN, flags=0x01),
        approved(document, BEN, flags=0x04),
        BEN.sign(Purpose.REJECTION, rejection_document(Ticket.parse(document)), origin=PORTAL_ORIGIN),
        *(
            BEN.sign(purpose, document, origin=PORTAL_ORIGIN)
            for purpose in Purpose
            if purpose != "break-glass approval v1"
        ),
        OWNER.sign(Purpose.APPROVAL, document),
        {"by": BEN.key.fingerprint},
        {"by": 7},
        {},
    ):
        refused("bad_signature", a_grant(document, approvals=[approved(document, ANN), bad]))


def test_nobody_is_not_enough() -> None:
    refused("no_quorum", a_grant(by=()))


def test_more_power_needs_more_people() -> None:
    """As many as the scope that needs most; the same person twice is one, with whatever key."""
    document = a_ticket(scopes=["status", "workspace:read", "workspace:write"])
    refused("no_quorum", a_grant(document))
    refused("no_quorum", a_grant(document, [ANN, ANN]))
    assert judged(a_grant(document, [ANN, CAT])).people == {"ann", "cat"}
    two_keys = a_set(approvers=[approver(ANN, "ann"), approver(EVE, "ann"), approver(BEN, "ben")])
    document = a_ticket(scopes=["exec"], paths=[""], set=two_keys)
    refused("no_quorum", a_grant(document, [ANN, EVE]), approvers=ApproverSet.parse(two_keys))
    assert judged(a_grant(document, [EVE, BEN]), approvers=ApproverSet.parse(two_keys))


def test_the_policy_says_how_many() -> None:
    policy = {
        "status": 3,
        "logs:read": 1,
        "workspace:read": 2,
        "workspace:write": 2,
        "exec": 2,
        "emergency": 2,
    }
    pinned = ApproverSet.parse(a_set(threshold=3, policy=policy))
    wanted = {("logs:read",): 1, ("status",): 3, ("logs:read", "status"): 3}
    for scopes, number in wanted.items():
        assert needed(Ticket.parse(a_ticket(scopes=list(scopes), paths=[])), pinned) == number
    urgent = a_ticket(kind="emergency", seconds=900, scopes=["status"], paths=[], set=pinned.document)
    assert needed(Ticket.parse(urgent), pinned) == 2
    refused("no_quorum", a_grant(urgent), approvers=pinned)
    assert judged(a_grant(urgent, [ANN, BEN]), approvers=pinned)


@pytest.mark.parametrize("how", ["compressed", "hybrid"])
def test_nobody_asks_with_their_own_key_spelt_anew(how: str) -> None:
    """An approver as requester, with the very passkey: its fingerprint would be another's."""
    key = PersonKey("passkey", spellings(ANN.key)[how])
    document = a_ticket(requester={"person": "user:999", "name": "Rae", "key": key.public_key.hex()})
    request = asked(document, ANN) | {"by": key.fingerprint}
    refused("malformed", a_grant(document, [ANN], request=request))


def test_nobody_approves_what_they_ask() -> None:
    """Not as the same person with another key, not with the same key as another person, and not by alias."""
    same_person = a_ticket(requester={"person": "ann", "name": "Ann", "key": RAE.key.public_key.hex()})
    refused("own_approval", a_grant(same_person))
    refused("own_approval", a_grant(same_person, [BEN, ANN]))
    with_rae = a_set(
        approvers=[approver(RAE, "alias"), approver(EVE, "alias"), approver(ANN, "ann"), approver(BEN, "ben")]
    )
    pinned = ApproverSet.parse(with_rae)
    document = a_ticket(set=with_rae)
    refused("own_approval", a_grant(document, [RAE]), approvers=pinned)
    refused("own_approval", a_grant(document, [EVE]), approvers=pinned)
    refused("own_approval", a_grant(document, [ANN, EVE]), approvers=pinned)
    assert judged(a_grant(document, [ANN]), approvers=pinned)
    assert may_approve(Ticket.parse(document), pinned) == {"ann", "ben"}
    assert check_approval(Ticket.parse(document), pinned, approved(document), PORTAL_SITE) == "ann"


# The owner's terms


def test_closed() -> None:
    refused("closed", a_grant(), terms=terms(ordinary="closed"))
    assert judged(a_grant(), terms=terms(emergency="closed"))
    urgent = a_ticket(kind="emergency", seconds=900)
    refused("closed", a_grant(urgent), terms=terms(emergency="closed"))
    assert judged(a_grant(urgent), terms=terms(ordinary="closed"))


def test_the_owners_signature() -> None:
    """With any key of an owner; a member's, a stranger's, or one for another ticket or purpose does not do."""
    document, wanted = a_ticket(), terms(ordinary="owner")
    refused("owner_missing", a_grant(document), terms=wanted)
    signed = OWNER.sign(Purpose.OWNER_APPROVAL, document)
    assert judged(a_grant(document, owner=signed), terms=wanted).owner == OWNER.key.fingerprint
    refused("no_quorum", a_grant(document, (), owner=signed), terms=wanted)
    for bad in (
        MEMBER.sign(Purpose.OWNER_APPROVAL, document),
        MEMBER.sign(Purpose.OWNER_APPROVAL, document) | {"by": OWNER.key.fingerprint},
        OWNER.sign(Purpose.OWNER_APPROVAL, a_ticket()),
        OWNER.sign(Purpose.APPROVAL, document),
        {},
    ):
        refused("bad_signature", a_grant(document, owner=bad), terms=wanted)
        refused("bad_signature", a_grant(document, owner=bad))
    refused("bad_signature", a_grant(document, owner=signed), terms=wanted, keyring=None)


def test_the_owner_signs_at_the_portal_too() -> None:
    passkey = Passkey()
    ring = Keyring.parse(keyring(TENANT_ID, entry(passkey.key)))
    document = a_ticket()
    for origin, holds in ((PORTAL_ORIGIN, True), (ORIGIN, False)):
        grant = a_grant(document, owner=passkey.sign(Purpose.OWNER_APPROVAL, document, origin=origin))
        if holds:
            assert judged(grant, keyring=ring, terms=terms("owner")).owner == passkey.key.fingerprint
        else:
            refused("bad_signature", grant, keyring=ring, terms=terms("owner"))


def test_what_an_access_rests_on() -> None:
    """It ends with the set, the terms, and the owner who let it in."""

    def stands(found: Judged, **changed: Any) -> str:
        usual: dict[str, Any] = {"approvers": PINNED, "keyring": RING, "terms": None}
        try:
            check_standing(found, **{**usual, **changed})
        except TicketRefused as refusal:
            return refusal.code
        return ""

    document = a_ticket()
    plain = judged(a_grant(document))
    by_owner = judged(a_grant(document, owner=OWNER.sign(Purpose.OWNER_APPROVAL, document)))
    demoted = Keyring.parse(keyring(TENANT_ID, entry(MEMBER.key), entry(OWNER.key, "member")))
    assert stands(plain) == ""
    assert stands(plain, approvers=None) == "no_approvers"
    assert stands(plain, approvers=ApproverSet.parse(a_set(threshold=3))) == "wrong_set"
    assert stands(plain, terms=terms("closed")) == "closed"
    assert stands(plain, terms=terms("owner")) == "owner_missing"
    assert stands(by_owner, terms=terms("owner")) == ""
    assert stands(by_owner, terms=terms("owner"), keyring=demoted) == "owner_missing"
    assert stands(by_owner, terms=terms("owner"), keyring=None) == "owner_missing"
    assert stands(by_owner, terms=terms("closed")) == "closed"


# Time


def test_the_waiting_time() -> None:
    document = a_ticket()
    begins, ends = document["asked_at"], document["wait_until"]
    assert judged(a_grant(document), now=ends - 1)
    refused("too_late", a_grant(document), now=ends)
    assert judged(a_grant(document), now=begins - CLOCK_LEEWAY_SECONDS)
    refused("too_early", a_grant(document), now=begins - CLOCK_LEEWAY_SECONDS - 1)


def test_a_past_ticket_with_new_times() -> None:
    """Nobody signed those."""
    document = a_ticket()
    old = a_grant(document)
    later = document | {"wait_until": document["wait_until"] + 1}
    refused("bad_request_signature", old | {"document": later})
    refused("bad_signature", old | {"document": later, "request": asked(later)})


@pytest.mark.parametrize(
    "edit",
    [
        {"seconds": 14400},
        {"paths": [""]},
        {"scopes": ["logs:read", "status", "workspace:read"]},
        {"reason": "Something else that is long enough to be read."},
        {"incident": ""},
        {"revision": 2},
        {"ticket": "11111111-1111-4111-8111-111111111111"},
        {"nonce": "0" * 32},
        {"kind": "emergency", "seconds": 900},
        {"requester": {"person": "user:10", "name": "Rae", "key": RAE.key.public_key.hex()}},
    ],
)
def test_an_edit_voids_approvals(edit: dict[str, Any]) -> None:
    """Every member of the ticket is under the signatures; the requester alone may sign it anew."""
    document = a_ticket()
    changed = document | edit
    refused("bad_signature", a_grant(document) | {"document": changed, "request": asked(changed)})


# The form


@pytest.mark.parametrize(
    "bad",
    [
        {"more": 1},
        {"format": "break-glass ticket v2"},
        {"ticket": "x"},
        {"ticket": "11111111-1111-4111-8111-11111111111A"},
        {"tenant_id": None},
        {"runtime_id": RUNTIME_ID + "\n"},
        {"nonce": "0" * 31},
        {"nonce": 0},
        {"revision": 0},
        {"revision": True},
        {"kind": "urgent"},
        {"kind": ["ordinary"]},
        {"reason": "too short"},
        {"reason": " " * 40},
        {"reason": "x" * 2001},
        {"reason": "A reason that is long enough\x00 but for a control character."},
        {"reason": "A reason that is turned \u202e round half way and read wrongly."},
        {"reason": "A reason with an accent that is written as e\u0301, not composed."},
        {"incident": "javascript:alert(1)"},
        {"incident": "https://x y"},
        {"incident": "https://" + "x" * 500},
        {"incident": None},
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": "status"},
        {"scopes": ["workspace:read", "status"]},
        {"scopes": ["workspace:read", "workspace:read"]},
        {"scopes": ["workspace:write"]},
        {"scopes": [["status"]]},
        {"scopes": ["status"]},
        {"scopes": ["exec"]},
        {"scopes": ["exec"], "paths": []},
        {"paths": []},
        {"paths": None},
        {"paths": ["notes", "logs"]},
        {"paths": ["logs", "logs"]},
        {"paths": ["", "logs"]},
        {"paths": ["/logs"]},
        {"paths": ["logs/"]},
        {"paths": ["logs//x"]},
        {"paths": ["."]},
        {"paths": ["logs/./x"]},
        {"paths": ["../x"]},
        {"paths": ["logs/.."]},
        {"paths": ["a\0b"]},
        {"paths": ["a\nb"]},
        {"paths": ["txt.\u202efdp"]},
        {"paths": ["lo\u200bgs"]},
        {"paths": ["e\u0301"]},
        {"paths": ["\ud800"]},
        {"paths": ["x" * 1025]},
        {"paths": [f"{n:02}" for n in range(33)]},
        {"paths": sorted(str(n) * 600 for n in range(2))},
        {"seconds": 59},
        {"seconds": 14401},
        {"seconds": 1800.0},
        {"seconds": "1800"},
        {"asked_at": 0},
        {"asked_at": -1},
        {"wait_until": 0},
        {"wait_until": 2**52},
        {"approvers": None},
        {"approvers": {"version": 1}},
        {"approvers": {"version": 0, "hash": "0" * 64}},
        {"approvers": {"version": 1, "hash": "0" * 63}},
        {"approvers": {"version": 1, "hash": "F" * 64}},
        {"requester": None},
        {"requester": {"person": "user:9", "name": "Rae"}},
        {"requester": {"person": "", "name": "Rae", "key": RAE.key.public_key.hex()}},
        {"requester": {"person": "user:9", "name": "x" * 81, "key": RAE.key.public_key.hex()}},
        {"requester": {"person": "user:9", "name": "\u202eeaR", "key": RAE.key.public_key.hex()}},
        {"requester": {"person": "user:9", "name": "Rae", "key": RAE.key.public_key.hex().upper()}},
        {"requester": {"person": "user:9", "name": "Rae", "key": OWNER.key.public_key.hex()}},
        {"requester": {"person": "user:9", "name": "Rae", "key": 7}},
        {"kind": "emergency"},
        {"kind": "emergency", "seconds": 901},
        {"kind": "emergency", "seconds": 900, "scopes": ["exec"], "paths": [""]},
        {"kind": "emergency", "seconds": 900, "scopes": ["workspace:read", "workspace:write"]},
    ],
)
def test_malformed(bad: dict[str, Any]) -> None:
    with pytest.raises(TicketRefused) as caught:
        Ticket.parse(a_ticket() | bad)
    assert caught.value.code == "malformed"


def test_the_waiting_time_is_four_hours_at_most() -> None:
    document = a_ticket()
    assert Ticket.parse(document | {"wait_until": document["asked_at"] + 14400})
    for wait_until in (document["asked_at"] + 14401, document["asked_at"]):
        with pytest.raises(TicketRefused, match="wait_until"):
            Ticket.parse(document | {"wait_until": wait_until})


@pytest.mark.parametrize("missing", sorted(a_ticket()))
def test_every_member_is_needed(missing: str) -> None:
    document = a_ticket()
    del document[missing]
    with pytest.raises(TicketRefused, match="exactly"):
        Ticket.parse(document)


@pytest.mark.parametrize("bad", [None, [], "x", 7, {}])
def test_not_even_a_ticket(bad: Any) -> None:
    for parse in (Ticket.parse, Grant.parse):
        with pytest.raises(TicketRefused, match="exactly"):
            parse(bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"approvals": None},
        {"approvals": {}},
        {"approvals": [7]},
        {"approvals": [{}] * 33},
        {"request": None},
        {"owner": []},
        {"document": []},
        {"more": 1},
        {"request": {"padding": "x" * MAX_GRANT_BYTES}},
        {"request": {"number": 1.5}},
    ],
    ids=lambda bad: str(bad)[:40],
)
def test_a_malformed_grant(bad: dict[str, Any]) -> None:
    refused("malformed", a_grant() | bad)


def test_a_grant_is_written_as_it_is_read() -> None:
    document = a_grant(owner=OWNER.sign(Purpose.OWNER_APPROVAL, {}))
    assert Grant.parse(document).to_document() == document


# What is signed


def test_the_session_is_for_this_ticket_in_this_guest() -> None:
    ticket = Ticket.parse(a_ticket())
    assert session_document("ab", ticket) == {
        "nonce": "ab",
        "runtime_id": RUNTIME_ID,
        "ticket": ticket.ticket,
        "digest": ticket.digest,
    }


VECTORS: Any = json.loads((Path(__file__).parents[1] / "vectors" / "protocol.json").read_text())["ticket"]


def test_the_digest_by_another_implementation() -> None:
    """Node's crypto and no code of the project made this ticket, its digest and its signatures."""
    ticket = Ticket.parse(VECTORS["document"])
    assert ticket.digest == VECTORS["digest"]
    approvers = ApproverSet.parse(VECTORS["approvers"])
    assert approvers.hash == VECTORS["approvers_hash"] == ticket.approvers_hash
    found = judge(
        Grant.parse(VECTORS["grant"]),
        approvers=approvers,
        keyring=None,
        terms=None,
        tenant_id=ticket.tenant_id,
        runtime_id=ticket.runtime_id,
        site=PORTAL_SITE,
        now=ticket.asked_at,
    )
    assert found.people == {"user:1"}


# Paths


def test_paths_are_covered_by_whole_segments() -> None:
    ticket = Ticket.parse(a_ticket())
    for path in ("logs", "logs/a", "logs/a/b.txt", "notes/today.txt", "notes/today.txt/x"):
        assert ticket.covers(path), path
    for path in ("", "log", "logs2", "logs2/a", "notes", "notes/today", "LOGS", "logs/", "logs//a", "logs/."):
        assert not ticket.covers(path), path
    for path in ("logs/..", "logs/../secret", "/logs", "./logs", "../logs", "logs/a\0", "lo\u200bgs"):
        assert not ticket.covers(path), path


def test_the_whole_workspace() -> None:
    ticket = Ticket.parse(a_ticket(paths=[""]))
    assert ticket.covers("")
    assert ticket.covers("a/b")
    assert not ticket.covers("../a")
    assert not ticket.covers("a/../../b")


def test_no_paths_cover_nothing() -> None:
    ticket = Ticket.parse(a_ticket(scopes=["status"], paths=[]))
    assert not ticket.covers("")
    assert not ticket.covers("a")


SEGMENT = st.text(st.sampled_from("ab.-_ é"), min_size=1, max_size=4)
PATH = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)


@given(st.lists(PATH, min_size=1, max_size=5), PATH)
def test_covering_is_walking_down(paths: list[str], asked_for: str) -> None:
    """``covers`` says what walking from the root and meeting an allowed folder says."""
    try:
        ticket = Ticket.parse(a_ticket(paths=sorted(set(paths))))
    except TicketRefused:
        return
    parts = asked_for.split("/")
    met = any("/".join(parts[:n]) in ticket.paths for n in range(1, len(parts) + 1))
    assert ticket.covers(asked_for) == (met and not {".", ".."} & set(parts))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(a_ticket())), ANYTHING)
def test_a_ticket_is_read_or_refused(name: str, value: Any) -> None:
    """Never anything but these two, and what is read means one thing: its digest is that of its document."""
    document = a_ticket() | {name: value}
    try:
        ticket = Ticket.parse(document)
    except TicketRefused:
        return
    assert Ticket.parse(json.loads(canonical(document))) == ticket


@given(ANYTHING)
def test_a_grant_is_read_or_refused(value: Any) -> None:
    for name in ("document", "request", "approvals", "owner"):
        grant = a_grant() | {name: value}
        try:
            judged(grant)
        except TicketRefused:
            continue
        assert (name, value) == ("owner", None)
