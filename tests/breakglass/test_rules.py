"""What the database counts and keeps by itself, whoever writes the statement: quorum, length, debt, evidence."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from breakglass.clock import After
from breakglass.models import Approval, Mismatch, OwnerApproval, ReceiptHead, Review, SetProposal, Ticket
from breakglass.services import review_write, ticket_end, ticket_revoke
from breakglass.services.passkeys import passkey_retire
from breakglass.services.sets import set_propose
from tests.breakglass.lowered import set_times, triggers_down
from tests.breakglass.staff import Colleague, draft
from tests.breakglass.world import World

pytestmark = pytest.mark.django_db
EXEC = {"scopes": ["exec"], "paths": [""]}


def update(ticket: Ticket, **fields: Any) -> None:
    """By the ORM, round the services."""
    with transaction.atomic():
        Ticket.objects.filter(pk=ticket.pk).update(**fields)


def approve(ticket: Ticket) -> None:
    update(ticket, state="approved", approved_at=Now())


def begin(ticket: Ticket, **more: Any) -> None:
    update(ticket, **{"state": "active", "started_at": Now(), "access_until": After("seconds"), **more})


def by_hand(ticket: Ticket, colleague: Colleague) -> None:
    """An approval that nobody has signed."""
    key = colleague.passkey
    Approval.objects.create(
        ticket=ticket, revision=ticket.revision, passkey=key, person=key.person, signature={}
    )


class TestTheQuorum:
    """Steps to «approved» and «active» count the approvals of the present revision."""

    def test_with_enough_it_goes(self, world: World) -> None:
        """What all the refusals below are measured by."""
        ticket = world.open_for_two()
        for colleague in (world.anna, world.bert):
            by_hand(ticket, colleague)
        approve(ticket)
        begin(ticket)
        assert world.fresh(ticket).state == "active"

    def test_without_one(self, world: World) -> None:
        with pytest.raises(DatabaseError, match="no such step"):
            approve(world.open())

    def test_with_one_too_few(self, world: World) -> None:
        ticket = world.open_for_two()
        by_hand(ticket, world.anna)
        with pytest.raises(DatabaseError, match="no such step"):
            approve(ticket)

    def test_of_the_revision_before(self, world: World) -> None:
        ticket = world.edited(world.approved(), paths=["secret"])()
        with pytest.raises(DatabaseError, match="no such step"):
            approve(ticket)

    def test_fewer_than_the_set_asks_for(self, world: World) -> None:
        """``needed`` is a column that an edit may change: the number stands in the set."""
        ticket = world.edited(world.open(), **EXEC)()
        with triggers_down():
            Ticket.objects.filter(pk=ticket.pk).update(needed=1)
        by_hand(ticket, world.anna)
        with pytest.raises(DatabaseError, match="no such step"):
            approve(ticket)

    def test_more_seconds_than_were_signed(self, world: World) -> None:
        ticket = world.open()
        set_times(ticket, seconds=14400)
        by_hand(ticket, world.anna)
        with pytest.raises(DatabaseError, match="no such step"):
            approve(ticket)

    def test_a_revision_that_nobody_wrote(self, world: World) -> None:
        ticket = world.open()
        update(ticket, revision=2)
        by_hand(world.fresh(ticket), world.anna)
        with pytest.raises(DatabaseError, match="no such step"):
            approve(ticket)

    @pytest.mark.parametrize("gone", ["key", "account", "staff"])
    def test_whose_approver_has_gone_meanwhile(self, world: World, gone: str) -> None:
        ticket = world.approved()
        if gone == "key":
            passkey_retire(actor=world.anna.actor, passkey=world.anna.passkey)
        else:
            field = {"account": "is_active", "staff": "is_staff"}[gone]
            User.objects.filter(pk=world.anna.user.pk).update(**{field: False})
        with pytest.raises(DatabaseError, match="no such step"):
            begin(ticket)

    def test_of_a_set_that_is_in_force_no_more(self, world: World) -> None:
        ticket = world.approved()
        world.next_set()
        with pytest.raises(DatabaseError, match="no such step"):
            begin(ticket)

    def test_terms_that_closed_it(self, world: World) -> None:
        ticket = world.approved()
        world.terms(ordinary="closed")
        with pytest.raises(DatabaseError, match="no such step"):
            begin(ticket)

    def test_terms_that_ask_for_an_owner(self, world: World) -> None:
        """Whatever ``needs_owner`` says."""
        ticket = world.approved()
        world.terms(ordinary="owner")
        with pytest.raises(DatabaseError, match="no such step"):
            begin(ticket, needs_owner=False)
        world.owner_approve(ticket)
        begin(ticket)
        assert world.fresh(ticket).state == "active"

    def test_an_emergency_by_its_own_number(self, world: World) -> None:
        ticket = world.open(kind="emergency", scopes=["status"], paths=[])
        with pytest.raises(DatabaseError, match="no such step"):
            approve(ticket)
        by_hand(ticket, world.anna)
        approve(ticket)


class TestItsLength:
    @pytest.mark.parametrize("seconds", [60000, 601, 599])
    def test_it_runs_as_long_as_was_asked(self, world: World, seconds: int) -> None:
        now = timezone.now()
        with pytest.raises(DatabaseError, match="no such step"):
            begin(world.approved(), started_at=now, access_until=now + timedelta(seconds=seconds))

    def test_from_now_on(self, world: World) -> None:
        later = timezone.now() + timedelta(hours=1)
        with pytest.raises(DatabaseError, match="no such step"):
            begin(world.approved(), started_at=later, access_until=later + timedelta(seconds=600))


class TestTheDebt:
    """Of an emergency that runs, or has no review: nothing that waits is changed or begun."""

    @pytest.fixture(params=["runs", "unwritten"])
    def debt(self, world: World, request: pytest.FixtureRequest) -> Callable[[], None]:
        def owe() -> None:
            ticket = world.active(kind="emergency", scopes=["status"], paths=[])
            if request.param == "unwritten":
                ticket_end(actor=world.asker.actor, ticket=ticket)

        return owe

    def test_no_start(self, world: World, debt: Callable[[], None]) -> None:
        ticket = world.approved()
        debt()
        with pytest.raises(DatabaseError, match="no such step"):
            begin(ticket)

    def test_no_edit(self, world: World, debt: Callable[[], None]) -> None:
        ticket = world.open()
        debt()
        with pytest.raises(DatabaseError, match="no such step"):
            update(ticket, revision=F("revision") + 1)

    def test_nothing_new(self, world: World, debt: Callable[[], None]) -> None:
        model = world.open()
        debt()
        fields = ("tenant", "runtime", "requester", "passkey", "approvers_set", "needed", "seconds")
        given = {name: getattr(model, name) for name in fields}
        now = timezone.now()
        with pytest.raises(DatabaseError, match="begins as one that waits"), transaction.atomic():
            Ticket.objects.create(**given, kind="ordinary", asked_at=now, wait_until=now + timedelta(hours=1))


def test_an_edit_keeps_to_keys_of_the_requesters_own(world: World) -> None:
    with pytest.raises(DatabaseError, match="no such step"):
        update(world.open(), revision=2, passkey=world.anna.passkey)


class TestOwners:
    def by_hand(self, ticket: Ticket, user: User, **more: Any) -> None:
        given = {"revision": ticket.revision, "fingerprint": "0" * 64, "signature": {}, **more}
        with transaction.atomic():
            OwnerApproval.objects.create(ticket=ticket, person=f"user:{user.pk}", **given)

    def test_one_of_this_tenants(self, world: World) -> None:
        self.by_hand(world.open(), world.owner)

    def test_nobody_else(self, world: World) -> None:
        with pytest.raises(DatabaseError, match="no owner"):
            self.by_hand(world.open(), world.anna.user)

    def test_not_another_revision(self, world: World) -> None:
        with pytest.raises(DatabaseError, match="no owner"):
            self.by_hand(world.open(), world.owner, revision=2)

    def test_not_of_what_is_over(self, world: World) -> None:
        ticket = ticket_revoke(actor=world.anna.actor, ticket=world.open())
        with pytest.raises(DatabaseError, match="no owner"):
            self.by_hand(ticket, world.owner)


class TestReviews:
    @pytest.fixture
    def due(self, world: World) -> Review:
        ticket_end(actor=world.asker.actor, ticket=world.active())
        return Review.objects.get()

    def refused(self, review: Review, **fields: Any) -> None:
        with pytest.raises(DatabaseError, match="written once, by its requester"), transaction.atomic():
            Review.objects.filter(pk=review.pk).update(**fields)

    @pytest.mark.parametrize("field", ["text", "closed_at", "closed_by"])
    def test_a_closed_one_is_final(self, world: World, due: Review, field: str) -> None:
        review_write(actor=world.asker.actor, ticket=due.ticket, text="I restarted the gateway twice.")
        values = {"text": "I did nothing at all, honest.", "closed_at": timezone.now()}
        self.refused(due, **{field: values.get(field, world.anna.user)})

    def test_nor_is_it_opened_again(self, world: World, due: Review) -> None:
        review_write(actor=world.asker.actor, ticket=due.ticket, text="I restarted the gateway twice.")
        self.refused(due, text="", closed_at=None, closed_by=None)

    def test_nobody_else_closes_it(self, world: World, due: Review) -> None:
        self.refused(due, text="All was well.", closed_at=timezone.now(), closed_by=world.anna.user)

    def test_it_is_not_put_off(self, due: Review) -> None:
        self.refused(due, due_at=due.due_at + timedelta(days=1))

    @pytest.mark.parametrize("step", ["approved", "active"])
    def test_none_is_made_before_access_is_over(self, world: World, step: str) -> None:
        """One that is closed beforehand would be no debt."""
        with pytest.raises(DatabaseError, match="begins open"), transaction.atomic():
            Review.objects.create(ticket=getattr(world, step)(), due_at=timezone.now())

    def test_none_begins_closed(self, world: World, due: Review) -> None:
        with triggers_down(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM breakglass_review")
        with pytest.raises(DatabaseError, match="begins open"), transaction.atomic():
            Review.objects.create(
                ticket=due.ticket,
                due_at=due.due_at,
                text="Nothing to see here.",
                closed_at=timezone.now(),
                closed_by=world.asker.user,
            )


class TestEvidence:
    def test_a_proposal_stays_what_was_signed(self, world: World) -> None:
        proposal = set_propose(actor=world.anna.actor, document=draft(world.approvers, 2))
        lies: tuple[dict[str, Any], ...] = (
            {"document": {}},
            {"hash": "0" * 64},
            {"by": world.bert.user},
            {"state": "accepted"},
        )
        for fields in lies:
            with pytest.raises(DatabaseError, match="stays as it is"), transaction.atomic():
                SetProposal.objects.filter(pk=proposal.pk).update(**fields)
        with pytest.raises(DatabaseError, match="proposals are kept"), transaction.atomic():
            SetProposal.objects.filter(pk=proposal.pk)._raw_delete("default")

    def test_a_mismatch_stays_and_is_acknowledged_once(self, world: World) -> None:
        found = Mismatch.objects.create(runtime=world.runtime, kind="no_intent", token="t", seq=1)
        rows = Mismatch.objects.filter(pk=found.pk)
        word = {"acknowledged_at": timezone.now(), "acknowledged_by": world.anna.user, "why": "0" * 64}
        rows.update(**word)
        for fields in ({"why": "1" * 64}, {"acknowledged_at": None, "acknowledged_by": None, "why": ""}):
            with pytest.raises(DatabaseError, match="acknowledged once"), transaction.atomic():
                rows.update(**fields)
        with pytest.raises(DatabaseError, match="mismatches are kept"), transaction.atomic():
            rows._raw_delete("default")

    def test_how_far_a_guests_chain_went_stays(self, world: World) -> None:
        ReceiptHead.objects.create(runtime=world.runtime, seq=7, hash="0" * 64)
        with pytest.raises(DatabaseError, match="heads of receipts are kept"), transaction.atomic():
            ReceiptHead.objects.all()._raw_delete("default")
