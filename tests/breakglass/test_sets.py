"""Approver sets: who proposes, who signs, when one is in force; never by anything but signatures of a quorum."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from audit.models import Entry
from breakglass.models import ApproverSetVersion, SetProposal, SetSignature
from breakglass.people import names_person, read_set
from breakglass.promises import approver_keys
from breakglass.refusals import TicketRefused
from breakglass.selectors import current_set
from breakglass.services import sets
from breakglass.services.passkeys import passkey_retire
from breakglass.services.sets import set_propose, set_withdraw
from protocol.approvers import ApproverSet, check_quorum
from protocol.persons import Purpose
from tenants.sites import site
from tests.breakglass.lowered import triggers_down
from tests.breakglass.staff import Colleague, Staff, draft, maker, put_in_force, sign

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(make_user: Callable[..., User]) -> Staff:
    return maker(make_user)


@pytest.fixture
def chief(staff: Staff) -> Colleague:
    """May propose without being an approver."""
    found = staff("chief")
    found.user.user_permissions.add(Permission.objects.get(codename="propose_set"))
    return found


@pytest.fixture
def three(staff: Staff) -> list[Colleague]:
    return [staff(name) for name in ("anna", "ben", "cleo")]


@pytest.fixture
def first(chief: Colleague, three: list[Colleague]) -> ApproverSetVersion:
    """Anna, Ben and Cleo; two of them make a quorum."""
    proposal = set_propose(actor=chief.actor, document=draft(three, 2))
    for signer in three[:2]:
        sign(signer, proposal)
    found = current_set()
    assert found is not None
    return found


def noted(action: str) -> list[Any]:
    return [json.loads(row.event)["data"] for row in Entry.objects.filter(action=action).order_by("pk")]


def refused(code: str, deed: Callable[[], object]) -> None:
    before = list(ApproverSetVersion.objects.values_list("pk", flat=True))
    with pytest.raises(TicketRefused) as refusal:
        deed()
    assert refusal.value.code == code
    assert list(ApproverSetVersion.objects.values_list("pk", flat=True)) == before


def test_the_first_set(first: ApproverSetVersion, three: list[Colleague]) -> None:
    """Signed by a quorum of its own people; guests get no signatures of theirs, but an owner's."""
    assert (first.version, first.signatures) == (1, [])
    read = ApproverSet.parse(first.document)
    assert {each.person for each in read.approvers.values()} == {f"user:{each.user.pk}" for each in three}
    assert first.hash == read.hash
    assert SetProposal.objects.get().state == "accepted"
    about = {"version": 1, "hash": first.hash}
    assert noted("approvers.proposed") == noted("approvers.accepted") == [about]
    assert noted("approvers.signed") == [
        {**about, "signed_by": each.passkey.fingerprint} for each in three[:2]
    ]


def test_the_next_set(first: ApproverSetVersion, three: list[Colleague], staff: Staff, tenant: Any) -> None:
    """In force with the quorum's last signature, not before; guests can check every signature of it."""
    dora = staff("dora")
    proposal = set_propose(actor=three[2].actor, document=draft([*three, dora], 3))
    sign(three[0], proposal)
    assert current_set() == first
    sign(three[1], proposal)
    second = current_set()
    assert second is not None
    assert (second.version, second.document["previous"]) == (2, first.hash)
    people = check_quorum(
        ApproverSet.parse(first.document), Purpose.APPROVERS, second.document, second.signatures, site(tenant)
    )
    assert people == {f"user:{each.user.pk}" for each in three[:2]}


def test_one_person_with_two_passkeys_is_one(
    first: ApproverSetVersion, three: list[Colleague], chief: Colleague
) -> None:
    """People are counted, not keys."""
    phone = Colleague(three[0].user)
    phone.register(name="Phone")
    second = put_in_force([*three, phone], three[:2], 2)
    assert len(second.document["approvers"]) == 4
    proposal = set_propose(actor=chief.actor, document=draft(three[:2]))
    sign(three[0], proposal)
    refused("signed_already", lambda: sign(phone, proposal))
    assert current_set() == second


def test_only_approvers_of_the_current_set_sign(
    first: ApproverSetVersion, staff: Staff, chief: Colleague, make_user: Callable[..., User]
) -> None:
    """Not who is proposed, not the mightiest, not through a key registered since."""
    dora, root = staff("dora"), staff("root", is_superuser=True)
    proposal = set_propose(actor=chief.actor, document=draft([dora, root]))
    for outsider in (dora, root, chief):
        refused("not_an_approver", partial(sign, outsider, proposal))
    assert not SetSignature.objects.filter(proposal=proposal).exists()


def test_a_new_key_of_an_approver_signs_nothing_yet(
    first: ApproverSetVersion, three: list[Colleague], chief: Colleague
) -> None:
    """The set names keys: one that it does not name is no approver's, though the person is."""
    phone = Colleague(three[0].user)
    phone.register(name="Phone")
    proposal = set_propose(actor=chief.actor, document=draft([*three, phone], 2))
    refused("not_an_approver", lambda: sign(phone, proposal))


def test_who_may_propose(
    first: ApproverSetVersion, three: list[Colleague], staff: Staff, chief: Colleague, owner: User
) -> None:
    """Approvers, and staff with the permission. It changes nothing by itself."""
    dora = staff("dora")
    refused("not_allowed", lambda: set_propose(actor=dora.actor, document=draft([dora])))
    refused("not_allowed", lambda: set_propose(actor=Colleague(owner).actor, document=draft([dora])))
    for proposer in (three[0], chief):
        set_propose(actor=proposer.actor, document=draft([dora, proposer]))
    assert current_set() == first


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 4},
        {"threshold": 0},
        {"policy": {"exec": 4}},
        {"policy": {"exec": 3}},
        {"threshold": 1},
        {"policy": {"exec": 0}},
        {"policy": {"shell": 1}},
        {"approvers": []},
        {"more": 1},
    ],
)
def test_what_can_never_be_reached(first: ApproverSetVersion, three: list[Colleague], changes: Any) -> None:
    """More people than there are or than change the set, none at all, an empty set, an unknown scope."""
    document = draft(three, 2)
    if "policy" in changes:
        changes = {"policy": document["policy"] | changes["policy"]}
    refused("malformed", lambda: set_propose(actor=three[0].actor, document=document | changes))


def test_what_follows_another_set(first: ApproverSetVersion, three: list[Colleague]) -> None:
    """Neither back to an old version, nor beside, nor ahead."""
    document = draft(three, 2)
    for changes in ({"version": 3}, {"previous": "0" * 64}):
        refused("stale", partial(set_propose, actor=three[0].actor, document=document | changes))
    refused("stale", lambda: set_propose(actor=three[0].actor, document=first.document))


def test_of_two_proposals_one_wins(first: ApproverSetVersion, three: list[Colleague]) -> None:
    """What would have followed the same set is closed with it, and takes no signature more."""
    one = set_propose(actor=three[0].actor, document=draft(three[:2], 2))
    other = set_propose(actor=three[1].actor, document=draft(three[1:], 2))
    sign(three[0], other)
    for signer in three[:2]:
        sign(signer, one)
    refused("not_open", lambda: sign(three[1], other))
    assert SetProposal.objects.get(pk=other.pk).state == "withdrawn"


def test_a_key_is_its_holders(first: ApproverSetVersion, three: list[Colleague], staff: Staff) -> None:
    """Nobody is put in with another's key, and no key twice under two names."""
    dora = staff("dora")
    document = draft([*three, dora], 2)
    stranger = Colleague(dora.user).authenticator.key.public_key.hex()

    def replaced(**changes: str) -> Any:
        return {**document, "approvers": [*document["approvers"][:-1], document["approvers"][-1] | changes]}

    for changes in ({"person": f"user:{three[0].user.pk}"}, {"person": "dora"}, {"public_key": stranger}):
        refused(
            "unknown_passkey",
            partial(set_propose, actor=three[0].actor, document=replaced(**changes)),
        )


def leave(colleague: Colleague) -> None:
    User.objects.filter(pk=colleague.user.pk).update(is_active=False)


def no_more_staff(colleague: Colleague) -> None:
    User.objects.filter(pk=colleague.user.pk).update(is_staff=False)


def retire(colleague: Colleague) -> None:
    passkey_retire(actor=colleague.actor, passkey=colleague.passkey)


@pytest.mark.parametrize("parts", [leave, no_more_staff, retire])
def test_who_leaves_counts_no_more(
    first: ApproverSetVersion, three: list[Colleague], parts: Callable[[Colleague], None]
) -> None:
    """Neither a signature given before, nor a place in what others sign now."""
    anna, ben, cleo = three
    proposal = set_propose(actor=ben.actor, document=draft([ben, cleo], 2))
    with_anna = set_propose(actor=ben.actor, document=draft([anna, ben], 2))
    sign(anna, proposal)
    parts(anna)
    sign(ben, proposal)
    assert current_set() == first
    refused("unknown_passkey", lambda: sign(ben, with_anna))
    sign(cleo, proposal)
    assert current_set() != first


def test_a_key_that_another_account_was_given(first: ApproverSetVersion, three: list[Colleague]) -> None:
    """A set that names a key as somebody's who does not hold it: its holder is no approver by that."""
    ones = dict.fromkeys(first.document["policy"], 1)
    stray = {**first.document, "version": 2, "previous": first.hash, "threshold": 1, "policy": ones}
    stray["approvers"] = [{**each, "person": "user:999999"} for each in stray["approvers"]]
    ApproverSetVersion.objects.create(
        version=2, hash=ApproverSet.parse(stray).hash, document=stray, signatures=[]
    )
    proposal = SetProposal.objects.create(
        version=3, document=draft(three, 2), hash=ApproverSet.parse(draft(three, 2)).hash, by=three[0].user
    )
    refused("not_an_approver", lambda: sign(three[0], proposal))


def test_withdrawing(
    first: ApproverSetVersion, three: list[Colleague], staff: Staff, chief: Colleague
) -> None:
    """By who proposed it, and by any approver; once."""
    dora = staff("dora")
    for withdraws in (chief, three[2]):
        proposal = set_propose(actor=chief.actor, document=draft(three, 2))
        refused("not_allowed", partial(set_withdraw, actor=dora.actor, proposal=proposal))
        set_withdraw(actor=withdraws.actor, proposal=proposal)
        refused("not_open", partial(set_withdraw, actor=withdraws.actor, proposal=proposal))
        refused("not_open", partial(sign, three[0], proposal))
    assert len(noted("approvers.withdrawn")) == 2


def test_not_too_many_proposals(
    first: ApproverSetVersion, three: list[Colleague], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same one again is refused, and more than people can look at."""
    monkeypatch.setattr(sets, "MAX_OPEN", 2)
    propose: Callable[[Sequence[Colleague]], Any] = lambda who: set_propose(  # noqa: E731
        actor=three[0].actor, document=draft(who, 1)
    )
    propose(three)
    refused("proposed_already", lambda: propose(three))
    propose(three[:2])
    refused("too_many", lambda: propose(three[1:]))


def test_the_document_is_kept_in_canonical_form(chief: Colleague, staff: Staff) -> None:
    """A name in two spellings of Unicode is one: what is kept is what was signed."""
    anna = staff("Ame\u0301lie")
    set_propose(actor=chief.actor, document=draft([anna]))
    kept = SetProposal.objects.get()
    assert kept.document["approvers"][0]["name"] == "Am\u00e9lie"
    sign(anna, kept)
    assert names_person(read_set(current_set()), anna.user.pk)


def test_keys_that_machines_still_believe(first: ApproverSetVersion, three: list[Colleague]) -> None:
    """The no-go check names each key that is out of use here, and a set that nobody can change any more."""
    assert approver_keys() == (True, "3 approvers, all keys in use")
    retire(three[0])
    passed, evidence = approver_keys()
    assert not passed
    assert evidence.endswith(f"key {three[0].passkey.fingerprint[:16]} is in the set in force, and retired")
    no_more_staff(three[1])
    assert "1 people can still sign, and a change of the set takes 2" in approver_keys()[1]


def test_no_set_is_no_danger(db: None) -> None:
    """Nobody is let in."""
    assert approver_keys()[0] is True


def test_a_signature_sent_twice_is_one(chief: Colleague, staff: Staff) -> None:
    """By a proxy, or by hand as an answer was lost: a passkey that counts is not taken for a copy."""
    people = [staff(name, counter=5) for name in ("eva", "finn")]
    proposal = set_propose(actor=chief.actor, document=draft(people, 2))
    for signer, state in zip(people, ("open", "accepted"), strict=True):
        signature = signer.sign(Purpose.APPROVERS, proposal.document)
        for _ in range(2):
            found = sets.set_sign(actor=signer.actor, proposal=proposal, signature=signature)
            assert found.state == state
        assert signer.passkey.cloned_at is None
    assert SetSignature.objects.count() == len(noted("approvers.signed")) == 2


def test_what_goes_into_force_is_what_was_signed(
    first: ApproverSetVersion, three: list[Colleague], staff: Staff
) -> None:
    """A row that was changed under the signatures: no set that guests refuse is ever in force here."""
    proposal = set_propose(actor=three[0].actor, document=draft(three, 1))
    sign(three[0], proposal)
    other = draft([*three, staff("eve")], 1)
    with triggers_down():
        SetProposal.objects.filter(pk=proposal.pk).update(document=other, hash=ApproverSet.parse(other).hash)
    changed = SetProposal.objects.get(pk=proposal.pk)
    refused("bad_signature", lambda: sign(three[1], changed))


def test_nor_under_another_hash(first: ApproverSetVersion, three: list[Colleague]) -> None:
    proposal = set_propose(actor=three[0].actor, document=draft(three, 1))
    sign(three[0], proposal)
    with triggers_down():
        SetProposal.objects.filter(pk=proposal.pk).update(hash="0" * 64)
    refused("malformed", lambda: sign(three[1], SetProposal.objects.get(pk=proposal.pk)))


def test_what_another_set_closes_is_on_record(first: ApproverSetVersion, three: list[Colleague]) -> None:
    """One entry for each proposal that can follow no more."""
    taken, closed = (set_propose(actor=three[0].actor, document=draft(three, number)) for number in (1, 3))
    for signer in three[:2]:
        sign(signer, taken)
    assert SetProposal.objects.get(pk=closed.pk).state == "withdrawn"
    assert noted("approvers.withdrawn") == [{"version": 2, "hash": closed.hash}]
