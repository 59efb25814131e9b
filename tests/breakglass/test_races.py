"""Steps of one ticket at once, in threads with connections of their own. `make test` runs this on both databases.

Each race is run several times over; whoever comes first, one of the ends that are named must come out, and the
row, its approvals and the record must agree with each other.
"""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.models import Entry
from breakglass.models import Approval, Notice, Review, Revision, Ticket
from breakglass.refusals import TicketRefused
from breakglass.services import (
    review_write,
    ticket_approve,
    ticket_end,
    ticket_open,
    ticket_revoke,
    ticket_start,
    ticket_withdraw,
    tickets_expire,
)
from protocol.persons import Purpose
from tests import races
from tests.breakglass.lowered import set_times
from tests.breakglass.world import World

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 5


def at_once(*deeds: Callable[[], Any]) -> list[Any]:
    """What each came to: the state that it left, or its refusal's code."""
    return races.at_once(deeds, TicketRefused, lambda refusal: refusal.code)


def state(step: Callable[[], Ticket]) -> Callable[[], str]:
    return lambda: step().state


def approval(world: World, ticket: Ticket, who: str) -> Callable[[], str]:
    """An approval that is signed by now and only has to be taken."""
    colleague = getattr(world, who)
    signature = world.signed(ticket, colleague)
    actor = colleague.actor
    return state(lambda: ticket_approve(actor=actor, ticket=ticket, signature=signature))


def entries(ticket: Ticket) -> Counter[str]:
    return Counter(Entry.objects.filter(target_id=str(ticket.pk)).values_list("action", flat=True))


def test_two_approvals_at_once_make_the_quorum(world: World) -> None:
    """Neither misses the other's: with both there, it is approved, once."""
    for _ in range(ROUNDS):
        ticket = world.open_for_two()
        at_once(approval(world, ticket, "anna"), approval(world, ticket, "bert"))
        assert world.fresh(ticket).state == "approved"
        assert Approval.objects.filter(ticket=ticket).count() == 2
        assert entries(ticket)["ticket.approved"] == 1
        assert entries(ticket)["ticket.approval_given"] == 2
        ticket_withdraw(actor=world.asker.actor, ticket=ticket)


def test_three_approvals_where_one_is_enough(world: World) -> None:
    """One approves; the others find it approved."""
    ticket = world.open()
    ends = at_once(*[approval(world, ticket, who) for who in ("anna", "bert", "carl")])
    assert sorted(ends) == ["approved", "approved_already", "approved_already"]
    assert Approval.objects.filter(ticket=ticket).count() == entries(ticket)["ticket.approved"] == 1


def test_one_approval_sent_many_times(world: World) -> None:
    """A lost answer asked for again: one row, and nobody counts as two."""
    ticket = world.open_for_two()
    once = approval(world, ticket, "anna")
    assert at_once(*[once] * 4) == ["pending"] * 4
    assert Approval.objects.filter(ticket=ticket).count() == 1
    assert world.fresh(ticket).state == "pending"


def test_approval_and_withdrawal(world: World) -> None:
    for _ in range(ROUNDS):
        ticket = world.open()
        withdraw = state(lambda: ticket_withdraw(actor=world.asker.actor, ticket=ticket))  # noqa: B023
        ends = at_once(approval(world, ticket, "anna"), withdraw)
        assert ends in (["approved", "withdrawn"], ["over", "withdrawn"])
        assert world.fresh(ticket).state == "withdrawn"
        assert entries(ticket)["ticket.approved"] == (ends[0] == "approved")


def test_approval_and_the_clock(world: World) -> None:
    """Whose time is over is never approved, whether the sweeper or the approver comes first."""
    for _ in range(ROUNDS):
        ticket = world.open()
        approve = approval(world, ticket, "anna")
        set_times(ticket, wait_until=timezone.now() - timedelta(milliseconds=1))
        ends = at_once(approve, tickets_expire)
        assert ends[0] in {"over", "too_late"}
        assert (world.fresh(ticket).state, ends[1]) == ("timed_out", 1)
        assert Approval.objects.filter(ticket=ticket).count() == 0


def test_approval_and_an_edit(world: World) -> None:
    """An approval of the first revision never approves the second."""
    for _ in range(ROUNDS):
        ticket = world.open()
        edit = state(world.edited(ticket, paths=["secret"]))
        ends = at_once(approval(world, ticket, "anna"), edit)
        assert ends in (["approved", "pending"], ["edited", "pending"])
        fresh = world.fresh(ticket)
        assert (fresh.state, fresh.revision, fresh.approved_at) == ("pending", 2, None)
        assert Approval.objects.filter(ticket=ticket, revision=2).count() == 0
        ticket_withdraw(actor=world.asker.actor, ticket=fresh)


def test_an_edit_and_the_start(world: World) -> None:
    """Either what was approved begins, or what was not waits: never the second revision's access."""
    for _ in range(ROUNDS):
        ticket = world.approved()
        edit = state(world.edited(ticket, paths=["secret"]))
        ends = at_once(state(lambda: ticket_start(actor=world.asker.actor, ticket=ticket)), edit)  # noqa: B023
        fresh = world.fresh(ticket)
        assert (ends, fresh.state, fresh.revision) in (
            (["active", "started"], "active", 1),
            (["edited", "pending"], "pending", 2),
        )
        ticket_revoke(actor=world.asker.actor, ticket=fresh)


def test_two_edits(world: World) -> None:
    """One is the next revision; the other is told."""
    ticket = world.open()
    ends = at_once(state(world.edited(ticket, paths=["a"])), state(world.edited(ticket, paths=["b"])))
    assert sorted(ends) == ["edited", "pending"]
    assert world.fresh(ticket).revision == Revision.objects.filter(ticket=ticket).count() == 2


def test_it_begins_once(world: World) -> None:
    """Double mint: of many starts one is taken, and the time of access is set once."""
    for _ in range(ROUNDS):
        ticket = world.approved()
        start = state(lambda: ticket_start(actor=world.asker.actor, ticket=ticket))  # noqa: B023
        ends = at_once(*[start] * 4)
        assert sorted(ends) == ["active", "started", "started", "started"]
        assert entries(ticket)["ticket.started"] == 1
        ticket_end(actor=world.asker.actor, ticket=ticket)


def test_start_and_revocation(world: World) -> None:
    """However it goes, it is revoked in the end, and says so once."""
    for _ in range(ROUNDS):
        ticket = world.approved()
        ends = at_once(
            state(lambda: ticket_start(actor=world.asker.actor, ticket=ticket)),  # noqa: B023
            state(lambda: ticket_revoke(actor=world.anna.actor, ticket=ticket)),  # noqa: B023
        )
        assert ends in (["active", "revoked"], ["over", "revoked"])
        fresh = world.fresh(ticket)
        assert (fresh.state, fresh.started_at is not None) == ("revoked", ends[0] == "active")
        assert Review.objects.filter(ticket=ticket).count() == (ends[0] == "active")
        assert entries(ticket)["ticket.revoked"] == 1


def test_end_revocation_and_the_clock(world: World) -> None:
    """Three ways to end: one is taken."""
    for _ in range(ROUNDS):
        ticket = world.active()
        ends = at_once(
            state(lambda: ticket_end(actor=world.asker.actor, ticket=ticket)),  # noqa: B023
            state(lambda: ticket_revoke(actor=world.anna.actor, ticket=ticket)),  # noqa: B023
            tickets_expire,
        )
        taken = [end for end in ends[:2] if end != "over"]
        assert taken == [world.fresh(ticket).state]
        assert Review.objects.filter(ticket=ticket).count() == 1
        kinds = Notice.objects.filter(ticket=ticket, kind="over").values_list("user", flat=True)
        assert len(kinds) == len(set(kinds))


def test_approval_and_rejection(world: World) -> None:
    for _ in range(ROUNDS):
        ticket = world.open()
        document = world.rejection(ticket, world.bert)
        ends = at_once(approval(world, ticket, "anna"), state(document))
        assert ends in (["approved", "approved_already"], ["over", "rejected"])
        assert world.fresh(ticket).state == ("approved" if ends[0] == "approved" else "rejected")
        if ends[0] == "approved":
            ticket_withdraw(actor=world.asker.actor, ticket=ticket)


def test_one_request_sent_many_times(world: World) -> None:
    """A lost answer asked for again: one ticket."""
    document = world.drafted()
    signature = world.asker.sign(Purpose.ACCESS_REQUEST, document)

    def ask() -> Any:
        return ticket_open(actor=world.asker.actor, document=document, signature=signature).pk

    assert len(set(at_once(*[ask] * 4)) - {"stale"}) == 1
    assert Ticket.objects.count() == Revision.objects.count() == 1


def test_two_emergencies_at_once(world: World) -> None:
    """A person has one open at a time."""

    def ask() -> Any:
        document = world.drafted(kind="emergency")
        signature = world.asker.sign(Purpose.ACCESS_REQUEST, document)
        return lambda: ticket_open(actor=world.asker.actor, document=document, signature=signature).kind

    ends = at_once(ask(), ask())
    assert sorted(ends) == ["emergency", "emergency_open"]


def test_an_emergency_and_another_ticket_begin(world: World) -> None:
    """Of one person: if the emergency is first, the other does not begin."""
    for _ in range(ROUNDS):
        ordinary = world.approved()
        emergency = world.approved(kind="emergency", scopes=["status"], paths=[])
        actor = world.asker.actor
        ends = at_once(
            state(lambda: ticket_start(actor=actor, ticket=ordinary)),  # noqa: B023
            state(lambda: ticket_start(actor=actor, ticket=emergency)),  # noqa: B023
        )
        assert ends in (["active", "active"], ["review_due", "active"])
        if ends[0] == "active":
            first, second = world.fresh(ordinary).started_at, world.fresh(emergency).started_at
            assert first is not None
            assert second is not None
            assert first <= second, "it began though the emergency ran"
        ticket_end(actor=actor, ticket=emergency)
        review_write(actor=actor, ticket=emergency, text="Looked at its state; all was well.")
        (ticket_end if ends[0] == "active" else ticket_withdraw)(actor=actor, ticket=ordinary)


def test_a_review_is_written_once(world: World) -> None:
    ticket = ticket_end(actor=world.asker.actor, ticket=world.active())

    def write(text: str) -> Callable[[], str]:
        return lambda: review_write(actor=world.asker.actor, ticket=ticket, text=text).text

    ends = at_once(write("The first of two accounts."), write("The other of two accounts."))
    assert ends.count("review_closed") == 1
    assert Review.objects.get().text in ends
