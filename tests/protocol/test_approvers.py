"""The approver set: who makes a quorum, and by which rule the set changes."""

from typing import Any

import pytest

from protocol.approvers import (
    DEFAULT_POLICY,
    ApproversError,
    ApproverSet,
    accept,
    check_quorum,
    naming_document,
)
from protocol.keyrings import Keyring
from protocol.persons import Purpose, Site
from tests.protocol.people import (
    MEMBER,
    ORIGIN,
    OWNER,
    RP_ID,
    STRANGER,
    Device,
    Passkey,
    entry,
    keyring,
    naming,
    spellings,
)

SITE = Site(RP_ID, frozenset({ORIGIN}))
ANN, BEN, CAT, EVE = Passkey(), Passkey(), Passkey(), Passkey()
RING = Keyring.parse(keyring("t", entry(OWNER.key), entry(MEMBER.key, "member")))


def approver(key: Passkey, person: str, **changed: Any) -> dict[str, Any]:
    return {
        "kind": "passkey",
        "public_key": key.key.public_key.hex(),
        "person": person,
        "name": person.title(),
        **changed,
    }


def the_set(*approvers: dict[str, Any], **changed: Any) -> dict[str, Any]:
    usual = [approver(ANN, "ann"), approver(BEN, "ben"), approver(CAT, "cat")]
    return {
        "version": 1,
        "previous": None,
        "threshold": 2,
        "policy": dict(DEFAULT_POLICY),
        "approvers": list(approvers) or usual,
        **changed,
    }


FIRST = ApproverSet.parse(the_set())


def following(**changed: Any) -> dict[str, Any]:
    return the_set(approver(ANN, "ann"), approver(BEN, "ben"), version=2, previous=FIRST.hash, **changed)


def refused(
    code: str, current: ApproverSet | None, document: Any, *signers: Any, purpose: Purpose = Purpose.APPROVERS
) -> None:
    signatures = [signer.sign(purpose, document) for signer in signers]
    with pytest.raises(ApproversError) as caught:
        accept(current, document, signatures, RING, SITE)
    assert caught.value.code == code


def test_the_first_needs_an_owner() -> None:
    """Nobody but an owner says whom a guest will ever believe."""
    document = the_set()
    assert accept(None, document, [naming(OWNER, document, "t")], RING, SITE).hash == FIRST.hash
    refused("not_an_owner", None, document)
    refused("not_an_owner", None, document, MEMBER)
    refused("not_an_owner", None, document, ANN, BEN, CAT)
    refused("bad_signature", None, document, OWNER, purpose=Purpose.KEYRING)
    with pytest.raises(ApproversError, match="owner"):
        accept(None, document, [naming(OWNER, document, "t")], None, SITE)


def test_a_naming_is_one_tenants_and_no_quorums() -> None:
    """An owner of two tenants names for one; an owner who is an approver elsewhere names nobody by signing there."""
    document = the_set()
    refused("bad_signature", None, document, OWNER)
    lies = [
        naming(OWNER, document, "another"),
        naming(OWNER, the_set(threshold=3), "t"),
        naming(OWNER, document, "t") | {"by": STRANGER.key.fingerprint},
        OWNER.sign(Purpose.NAMING, document),
        OWNER.sign(Purpose.APPROVERS, naming_document("t", FIRST)),
    ]
    ring = Keyring.parse(keyring("t", entry(OWNER.key), entry(STRANGER.key)))
    for lie in lies:
        with pytest.raises(ApproversError) as caught:
            accept(None, document, [lie], ring, SITE)
        assert caught.value.code == "bad_signature"
    there = Keyring.parse(keyring("another", entry(OWNER.key)))
    assert accept(None, document, [lies[0]], there, SITE).hash == FIRST.hash


def test_a_policy_never_asks_for_more_than_can_change_it() -> None:
    """Else who can change the policy lowers it first."""
    assert ApproverSet.parse(the_set(threshold=3, policy={**DEFAULT_POLICY, "exec": 3})).policy["exec"] == 3
    with pytest.raises(ApproversError, match=r"exec asks for 3 people.*raise the threshold"):
        ApproverSet.parse(the_set(policy={**DEFAULT_POLICY, "exec": 3}))
    with pytest.raises(ApproversError, match="workspace:write asks for 2 people"):
        ApproverSet.parse(the_set(threshold=1))


def test_the_first_may_be_any_version() -> None:
    """The owner names the set that is in force now; what came before is no matter of this guest."""
    document = the_set(version=7, previous="ab" * 32)
    assert accept(None, document, [naming(OWNER, document, "t")], RING, SITE).version == 7
    refused("not_an_owner", None, document, ANN, BEN, CAT)


def test_later_ones_need_a_quorum() -> None:
    document = following()
    signatures = [each.sign(Purpose.APPROVERS, document) for each in (ANN, CAT)]
    assert accept(FIRST, document, signatures, RING, SITE).version == 2
    refused("no_quorum", FIRST, document, ANN)
    refused("no_quorum", FIRST, document, ANN, ANN)
    refused("bad_signature", FIRST, document, OWNER)
    refused("bad_signature", FIRST, document, ANN, EVE)
    refused("bad_signature", FIRST, document, ANN, BEN, purpose=Purpose.RECOVERY)


def test_a_set_never_goes_back_forks_or_skips() -> None:
    second = ApproverSet.parse(following())
    assert accept(second, second.document, [], RING, SITE) is second
    refused("rolled_back", second, FIRST.document, ANN, BEN)
    refused("forked", FIRST, the_set(threshold=3), ANN, BEN)
    refused("forked", FIRST, following() | {"previous": "0" * 64}, ANN, BEN)
    refused("version_skipped", FIRST, following() | {"version": 3}, ANN, BEN)


def test_people_are_counted_not_keys() -> None:
    """Two keys of one person are one person."""
    document = the_set(approver(ANN, "ann"), approver(CAT, "ann"), approver(BEN, "ben"))
    both = ApproverSet.parse(document)
    for signers, enough in (((ANN, CAT), False), ((ANN, BEN), True), ((CAT, BEN), True)):
        signatures = [signer.sign(Purpose.RECOVERY, {}) for signer in signers]
        if enough:
            assert check_quorum(both, Purpose.RECOVERY, {}, signatures, SITE) == {"ann", "ben"}
            continue
        with pytest.raises(ApproversError, match="2 different people"):
            check_quorum(both, Purpose.RECOVERY, {}, signatures, SITE)


def test_the_user_must_have_been_verified() -> None:
    signatures = [ANN.sign(Purpose.RECOVERY, {}), BEN.sign(Purpose.RECOVERY, {}, flags=0x01)]
    with pytest.raises(ApproversError, match="not verified"):
        check_quorum(FIRST, Purpose.RECOVERY, {}, signatures, SITE)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {},
        the_set() | {"more": 1},
        the_set() | {"threshold": 0},
        the_set() | {"threshold": 4},
        the_set() | {"threshold": True},
        the_set() | {"version": 0},
        the_set() | {"previous": 7},
        the_set() | {"previous": "ab" * 32},
        the_set() | {"version": 2},
        the_set() | {"policy": None},
        the_set() | {"policy": {}},
        the_set() | {"policy": {name: 1 for name in DEFAULT_POLICY if name != "exec"}},
        the_set() | {"policy": {**DEFAULT_POLICY} | {"root": 1}},
        the_set() | {"policy": {**DEFAULT_POLICY} | {"exec": 0}},
        the_set() | {"policy": {**DEFAULT_POLICY} | {"exec": True}},
        the_set() | {"policy": {**DEFAULT_POLICY} | {"exec": 4}},
        the_set() | {"policy": {**DEFAULT_POLICY} | {"exec": 3}},
        the_set() | {"threshold": 1},
        the_set(*(approver(ANN, "ann", public_key=one.hex()) for one in spellings(ANN.key).values())),
        the_set(approver(ANN, "ann"), approver(ANN, "b", public_key=spellings(ANN.key)["hybrid"].hex())),
        the_set(approver(ANN, "Kim"), approver(BEN, "\u212aim")),
        the_set(approver(ANN, "ann", name="e\u0301"), approver(BEN, "ben")),
        the_set(approver(ANN, "ann"), approver(BEN, "ben"))
        | {"policy": {**DEFAULT_POLICY} | {"emergency": 3}},
        the_set() | {"approvers": []},
        the_set(approver(ANN, "ann"), approver(ANN, "ben")),
        the_set(approver(ANN, "ann"), approver(BEN, "ann")),
        the_set(approver(ANN, ""), approver(BEN, "ben")),
        the_set(approver(ANN, "ann", kind="device"), approver(BEN, "ben")),
        the_set(approver(ANN, "ann", public_key="zz"), approver(BEN, "ben")),
        the_set(approver(ANN, "ann", public_key=Device(b"x" * 32).key.public_key.hex()), approver(BEN, "b")),
    ],
)
def test_malformed(bad: Any) -> None:
    """Also a threshold that its people can never reach."""
    with pytest.raises(ApproversError) as caught:
        ApproverSet.parse(bad)
    assert caught.value.code == "malformed"
