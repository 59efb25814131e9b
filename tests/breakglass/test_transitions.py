"""The one table, and the one statement of each step."""

import pytest
from django.db import connection
from django.db.models import F, Q
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from breakglass.clock import After, database_time
from breakglass.models import Ticket
from breakglass.standing import standing
from breakglass.transitions import (
    IN_TIME,
    TABLE,
    State,
    before,
    move,
    owner_agrees,
    quorum,
    requester_may,
    rests_on,
)
from tests.breakglass.world import World

pytestmark = pytest.mark.django_db


def test_what_is_final_is_final() -> None:
    assert set(State) - set(TABLE) == set(State) - set(Ticket.OPEN)
    assert before(State.ACTIVE) == ["approved"]
    assert before(State.APPROVED) == ["pending"]


def test_a_step_is_one_statement(world: World) -> None:
    """All that a start asks stands in the WHERE of the UPDATE itself, not in a list of ids found before.

    PostgreSQL looks at the WHERE again where the row was changed meanwhile; at the rows of a subquery over the
    same table it does not.
    """
    ticket = world.approved()
    current = standing(world.tenant)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        taken = move(
            ticket.pk,
            State.ACTIVE,
            IN_TIME,
            rests_on(current),
            quorum(current),
            owner_agrees(current, ticket.kind),
            requester_may(world.tenant),
            Q(revision=ticket.revision),
            started_at=Now(),
            access_until=After("seconds"),
        )
    assert taken
    (query,) = asked.captured_queries
    text = query["sql"]
    assert text.startswith("UPDATE")
    assert "IN (SELECT" not in text.partition("WHERE")[2].partition("EXISTS")[0]
    assert 'FROM "breakglass_ticket"' not in text
    for table in ("approversetversion", "termsversion", "approval", "passkey", "auth_user"):
        assert f"{table}" in text


def test_the_clock_is_the_databases(world: World) -> None:
    """Its time in a column is the time that is told, to the second."""
    ticket = world.active()
    Ticket.objects.filter(pk=ticket.pk).update(delivered_at=Now(), guest_until=After("seconds"))
    row = Ticket.objects.annotate(length=F("guest_until") - F("delivered_at")).get(pk=ticket.pk)
    assert row.guest_until is not None
    assert row.delivered_at is not None
    assert (row.guest_until - row.delivered_at).total_seconds() == pytest.approx(600, abs=0.002)
    assert abs((database_time() - row.delivered_at).total_seconds()) < 5
