"""Several sign at once, in threads with connections of their own; meant for PostgreSQL, true on both."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User

from breakglass.models import ApproverSetVersion, Passkey, SetProposal, SetSignature
from breakglass.refusals import TicketRefused
from breakglass.services.passkeys import passkey_retire
from breakglass.services.sets import set_propose, set_withdraw
from protocol.persons import Purpose
from tests import races
from tests.breakglass.staff import Colleague, draft, maker, put_in_force, sign
from tests.breakglass.test_passkeys import DOCUMENT, take

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def three(make_user: Callable[..., User]) -> list[Colleague]:
    """Anna, Ben and Cleo, who are the set in force; two of them make a quorum."""
    staff = maker(make_user)
    people = [staff(name, is_superuser=True) for name in ("anna", "ben", "cleo")]
    put_in_force(people, people[:2], 2)
    return people


def at_once(*deeds: Callable[[], Any]) -> list[Any]:
    """What each came to: its answer, or its refusal's code."""
    return races.at_once(deeds, TicketRefused, lambda refusal: refusal.code)


def signing(signer: Colleague, proposal: SetProposal) -> Callable[[], str]:
    return lambda: str(sign(signer, SetProposal.objects.get(pk=proposal.pk)).state)


def versions() -> int:
    return ApproverSetVersion.objects.count()


def test_two_signatures_that_make_the_quorum(three: list[Colleague]) -> None:
    """Neither misses the other: the set is in force, once."""
    for round_ in range(4):
        proposal = set_propose(actor=three[0].actor, document=draft(three, 2))
        ends = at_once(*[signing(each, proposal) for each in three[:2]])
        assert sorted(ends) == ["accepted", "open"]
        assert versions() == round_ + 2


def test_two_sets_for_one_version(three: list[Colleague]) -> None:
    """One wins, the other is closed; nobody waits for ever."""
    for round_ in range(4):
        one = set_propose(actor=three[0].actor, document=draft(three, 2, status=1))
        other = set_propose(actor=three[0].actor, document=draft(three, 2, status=2))
        for proposal in (one, other):
            sign(three[0], proposal)
        ends = at_once(signing(three[1], one), signing(three[2], other))
        assert sorted(ends) == ["accepted", "not_open"]
        assert versions() == round_ + 2


def test_a_signature_and_a_withdrawal(three: list[Colleague]) -> None:
    """In force or withdrawn, whichever was first; never both."""
    for _ in range(4):
        before = versions()
        proposal = set_propose(actor=three[0].actor, document=draft(three, 2))
        sign(three[0], proposal)
        ends = at_once(
            signing(three[1], proposal), partial(set_withdraw, actor=three[2].actor, proposal=proposal)
        )
        accepted = SetProposal.objects.get(pk=proposal.pk).state == "accepted"
        assert versions() == before + accepted
        assert ends == (["accepted", "not_open"] if accepted else ["not_open", None])


def test_a_signature_and_a_retirement(three: list[Colleague]) -> None:
    """A key that was retired first signs nothing; one that signed first no longer counts."""
    proposal = set_propose(actor=three[0].actor, document=draft(three[:2], 2))
    cleo = three[2]
    ends = at_once(signing(cleo, proposal), lambda: passkey_retire(actor=cleo.actor, passkey=cleo.passkey))
    assert ends in (["open", None], ["unknown_passkey", None])
    sign(three[0], proposal)
    assert SetProposal.objects.get(pk=proposal.pk).state == "open"


def test_one_assertion_twice(make_user: Callable[..., User]) -> None:
    """The same counter in two requests: one is taken, the other tells of a copy."""
    anna = maker(make_user)("anna", counter=5)
    signature = anna.sign(Purpose.APPROVAL, DOCUMENT)
    ends = at_once(*[lambda: take(anna, signature).counter] * 2)
    assert sorted(map(str, ends)) == ["6", "cloned"]
    assert Passkey.objects.get().cloned_at is not None


def test_one_person_signs_twice(three: list[Colleague]) -> None:
    """With two keys of the set in force, at once: one signature."""
    phone = Colleague(three[0].user)
    phone.register(name="Phone")
    put_in_force([*three, phone], three[:2], 2)
    proposal = set_propose(actor=three[0].actor, document=draft(three, 2))
    ends = at_once(signing(three[0], proposal), signing(phone, proposal))
    assert sorted(ends) == ["open", "signed_already"]
    assert SetSignature.objects.filter(proposal=proposal).count() == 1


def test_one_key_under_two_accounts(make_user: Callable[..., User]) -> None:
    """Both register it at once: it is one's."""
    one = Colleague(make_user("anna", is_staff=True))
    other = Colleague(make_user("alias", is_staff=True), one.authenticator)
    ends = at_once(lambda: one.register() and "taken by one", lambda: other.register() and "taken by one")
    assert sorted(ends) == ["taken", "taken by one"]
    assert Passkey.objects.count() == 1
