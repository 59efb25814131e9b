"""The last way back: a quorum, 72 hours of notice, and everybody's chance to object."""

import json
from pathlib import Path
from typing import Any

import pytest

from guest.agent.members import Members, MembersRefused
from guest.agent.recovery import NOTICE_SECONDS, RECOVERY_FILE, Recovery
from protocol.approvers import recovery_document
from protocol.keyrings import Keyring
from protocol.persons import Purpose, Site
from tests.guest.conftest import Site as Place
from tests.guest.fleet import TENANT_ID, Agent
from tests.guest.test_gate import call, pin, proof, sign_in
from tests.protocol.people import ORIGIN, OWNER, RP_ID, STRANGER, entry, keyring, naming
from tests.protocol.test_approvers import ANN, BEN, CAT, EVE, approver, the_set

SITE = Site(RP_ID, frozenset({ORIGIN}))
NOW = 1_800_000_000


def members_of(folder: Path) -> Members:
    members = Members(folder, TENANT_ID, SITE)
    if members.keyring is None:
        document = keyring(TENANT_ID)
        members.take_keyring(document, OWNER.sign(Purpose.KEYRING, document))
    return members


def recovery_in(folder: Path) -> Recovery:
    """With pinned approvers: Ann, Ben and Cat, two of whom make a quorum."""
    found = Recovery(folder, members_of(folder), TENANT_ID, SITE)
    found.take_approvers(the_set(), [naming(OWNER, the_set(), TENANT_ID)])
    return found


def wanted(folder: Path) -> Any:
    """The keyring of somebody who has a new key."""
    current = members_of(folder).keyring
    assert current is not None
    return keyring(TENANT_ID, entry(STRANGER.key), version=current.version + 1, previous=current.hash)


def approvals(found: Recovery, document: Any, *signers: Any) -> list[Any]:
    assert found.approvers is not None
    asked = recovery_document(TENANT_ID, Keyring.parse(document), found.approvers)
    return [signer.sign(Purpose.RECOVERY, asked) for signer in signers]


def code(caught: "pytest.ExceptionInfo[MembersRefused]") -> str:
    return caught.value.code


def test_after_the_notice_and_not_before(tmp_path: Path) -> None:
    """72 hours, also over a restart; then the new keyring is in force, and the wait is over."""
    found, document = recovery_in(tmp_path), wanted(tmp_path)
    pending = found.begin(document, approvals(found, document, ANN, BEN), NOW)
    assert pending.due == NOW + NOTICE_SECONDS
    again = Recovery(tmp_path, members_of(tmp_path), TENANT_ID, SITE)
    with pytest.raises(MembersRefused) as caught:
        again.finish(NOW + NOTICE_SECONDS - 1)
    assert code(caught) == "too_early"
    assert again.finish(NOW + NOTICE_SECONDS).version == 2
    kept = members_of(tmp_path).keyring
    assert kept is not None
    assert set(kept.members) == {STRANGER.key.fingerprint}
    with pytest.raises(MembersRefused) as caught:
        again.finish(NOW + 2 * NOTICE_SECONDS)
    assert code(caught) == "nothing_pending"


def test_sent_again_it_does_not_begin_anew(tmp_path: Path) -> None:
    found, document = recovery_in(tmp_path), wanted(tmp_path)
    signatures = approvals(found, document, ANN, BEN)
    found.begin(document, signatures, NOW)
    assert found.begin(document, signatures, NOW + 500).began == NOW
    other = {**document, "members": [entry(EVE.key)]}
    with pytest.raises(MembersRefused) as caught:
        found.begin(other, approvals(found, other, ANN, BEN), NOW)
    assert code(caught) == "already_pending"


@pytest.mark.parametrize("signers", [(), (ANN,), (ANN, ANN), (ANN, EVE), (OWNER,)])
def test_without_a_quorum(tmp_path: Path, signers: Any) -> None:
    found, document = recovery_in(tmp_path), wanted(tmp_path)
    with pytest.raises(MembersRefused) as caught:
        found.begin(document, approvals(found, document, *signers), NOW)
    assert code(caught) in {"no_quorum", "bad_signature"}
    assert found.pending is None


def test_approvals_are_for_one_keyring(tmp_path: Path) -> None:
    """Approvers' signatures shown with another keyring than the one they saw."""
    found, document = recovery_in(tmp_path), wanted(tmp_path)
    slipped = {**document, "members": [entry(EVE.key)]}
    with pytest.raises(MembersRefused) as caught:
        found.begin(slipped, approvals(found, document, ANN, BEN, CAT), NOW)
    assert code(caught) == "bad_signature"


def test_an_owner_who_still_has_a_key_wins(tmp_path: Path) -> None:
    """By objecting, or by signing any keyring."""
    found, document = recovery_in(tmp_path), wanted(tmp_path)
    signatures = approvals(found, document, ANN, BEN)
    found.begin(document, signatures, NOW)
    assert (found.object(), found.object()) == (True, False)
    with pytest.raises(MembersRefused):
        found.finish(NOW + NOTICE_SECONDS)
    members = members_of(tmp_path)
    found = Recovery(tmp_path, members, TENANT_ID, SITE)
    found.begin(document, signatures, NOW)
    assert members.keyring is not None
    mine = keyring(TENANT_ID, version=2, previous=members.keyring.hash)
    members.take_keyring(mine, OWNER.sign(Purpose.KEYRING, mine))
    assert found.pending is None
    with pytest.raises(MembersRefused):
        found.finish(NOW + NOTICE_SECONDS)


def test_it_ends_with_the_set_that_began_it(tmp_path: Path) -> None:
    """Who began it are approvers no more: the notice goes with them, over a restart too."""
    found, document = recovery_in(tmp_path), wanted(tmp_path)
    found.begin(document, approvals(found, document, ANN, BEN), NOW)
    assert found.approvers is not None
    new = the_set(approver(CAT, "cat"), approver(EVE, "eve"), version=2, previous=found.approvers.hash)
    found.take_approvers(new, [each.sign(Purpose.APPROVERS, new) for each in (ANN, CAT)])
    for each in (found, Recovery(tmp_path, members_of(tmp_path), TENANT_ID, SITE)):
        assert each.statement()["recovery"] is None
        with pytest.raises(MembersRefused) as caught:
            each.finish(NOW + NOTICE_SECONDS)
        assert code(caught) == "nothing_pending"
    assert found.begin(document, approvals(found, document, CAT, EVE), NOW + 9).began == NOW + 9


def test_a_recovery_of_before(tmp_path: Path) -> None:
    """One that was begun before its set was kept with it must begin anew."""
    found, document = recovery_in(tmp_path), wanted(tmp_path)
    found.begin(document, approvals(found, document, ANN, BEN), NOW)
    kept = json.loads((tmp_path / RECOVERY_FILE).read_text())
    del kept["approvers"]
    (tmp_path / RECOVERY_FILE).write_text(json.dumps(kept))
    assert Recovery(tmp_path, members_of(tmp_path), TENANT_ID, SITE).pending is None


def test_a_naming_for_another_tenant(tmp_path: Path) -> None:
    """Nor one signature that an owner gave as an approver."""
    found = Recovery(tmp_path, members_of(tmp_path), TENANT_ID, SITE)
    for lie in (naming(OWNER, the_set(), "another"), OWNER.sign(Purpose.APPROVERS, the_set())):
        with pytest.raises(MembersRefused) as caught:
            found.take_approvers(the_set(), [lie])
        assert code(caught) == "bad_signature"
    assert found.approvers is None


def test_a_guest_without_approvers_has_no_such_way(tmp_path: Path) -> None:
    found = Recovery(tmp_path, members_of(tmp_path), TENANT_ID, SITE)
    with pytest.raises(MembersRefused) as caught:
        found.begin(wanted(tmp_path), [], NOW)
    assert code(caught) == "no_approvers"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"tenant_id": "another"}, "wrong_tenant"),
        ({"version": 3}, "forked"),
        ({"previous": "0" * 64}, "forked"),
        ({"members": []}, "malformed"),
    ],
)
def test_a_keyring_that_does_not_follow(tmp_path: Path, changed: Any, expected: str) -> None:
    found, document = recovery_in(tmp_path), {**wanted(tmp_path), **changed}
    with pytest.raises(MembersRefused) as caught:
        found.begin(document, [], NOW)
    assert code(caught) == expected


def test_on_a_running_agent(agent: Agent, site: Place) -> None:
    """Pinned, begun, stated to portal and members, stopped by an owner; and never finished early."""
    pin(agent, site)
    approvers = {"document": the_set(), "signatures": [naming(OWNER, the_set(), TENANT_ID)]}
    status, answer = call(agent, site, "PUT", "/v1/approvers", approvers)
    assert (status, answer["version"]) == (200, 1)
    document = keyring(
        TENANT_ID, entry(STRANGER.key), version=2, previous=Keyring.parse(keyring(TENANT_ID)).hash
    )
    asked = {
        "tenant_id": TENANT_ID,
        "previous": document["previous"],
        "keyring": Keyring.parse(document).hash,
        "approvers": answer["hash"],
    }
    body = {"keyring": document, "signatures": [each.sign(Purpose.RECOVERY, asked) for each in (ANN, CAT)]}
    assert call(agent, site, "PUT", "/v1/recovery", body)[0] == 200
    stated = call(agent, site, "GET", "/v1/status")[1]["recovery"]
    assert stated["fingerprints"] == [STRANGER.key.fingerprint]
    assert call(agent, site, "POST", "/v1/recovery/finish")[1]["error"] == "too_early"
    session = sign_in(agent, site)[1]["session"]
    shown = call(agent, site, "GET", "/v1/members", **proof(session, "GET", "/v1/members", 1))[1]
    assert shown["recovery"] == stated
    path = "/v1/recovery/object"
    ended = call(agent, site, "POST", path, **proof(session, "POST", path, 2))
    assert ended == (200, {"ended": True})
    assert call(agent, site, "GET", "/v1/status")[1]["recovery"] is None
    assert call(agent, site, "POST", "/v1/recovery/finish")[1]["error"] == "nothing_pending"
