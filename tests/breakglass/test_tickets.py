"""A ticket's way from the request to its end, and everything that a step asks of whoever takes it."""

from typing import Any

import pytest

from audit.models import Entry
from breakglass.refusals import TicketRefused
from breakglass.services import (
    review_write,
    ticket_end,
    ticket_start,
)
from tests.breakglass.world import World

pytestmark = pytest.mark.django_db


def refused(code: str) -> Any:
    """Expect a refusal by this code."""

    class Expecting:
        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
            assert isinstance(error, TicketRefused), f"expected {code}, was {error!r}"
            assert error.code == code, f"expected {code}, was {error.code}: {error}"
            return True

    return Expecting()


def test_from_request_to_review(world: World) -> None:
    ticket = world.open()
    assert (ticket.state, ticket.needed, ticket.revision) == ("pending", 1, 1)
    ticket = world.approve(ticket, world.anna)
    assert ticket.state == "approved"
    assert ticket.approved_at is not None
    ticket = ticket_start(actor=world.asker.actor, ticket=ticket)
    assert ticket.state == "active"
    assert ticket.started_at is not None
    assert ticket.access_until is not None
    assert (ticket.access_until - ticket.started_at).total_seconds() == pytest.approx(600, abs=0.1)
    ticket = ticket_end(actor=world.asker.actor, ticket=ticket)
    assert (ticket.state, ticket.ending, ticket.ended_by_id) == ("ended", "done", world.asker.user.pk)
    review = review_write(actor=world.asker.actor, ticket=ticket, text="Restarted the gateway. " * 60)
    assert review.closed_at is not None
    actions = Entry.objects.filter(target_type="ticket").order_by("pk").values_list("action", flat=True)
    assert list(actions) == [
        *("ticket.opened", "ticket.approval_given", "ticket.approved", "ticket.started", "ticket.ended"),
        "ticket.reviewed",
    ]
