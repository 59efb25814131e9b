"""Of whose end a guest has to hear, in which machines, and when an end that is not confirmed is an alarm."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from breakglass.alerts import alerts
from breakglass.models import Ticket
from breakglass.owing import undelivered, unended
from breakglass.services import ticket_end, ticket_revoke, ticket_withdraw
from breakglass.services.endings import tickets_expire
from provisioning.models import Runtime
from tests.breakglass.lowered import set_times
from tests.breakglass.world import World

pytestmark = pytest.mark.django_db


def machine(world: World, **changes: Any) -> None:
    Runtime.objects.filter(pk=world.runtime.pk).update(**{"agent_address": "192.0.2.2:8443", **changes})


def alarms() -> list[str]:
    return [each.severity for each in alerts() if each.code == "access_not_ended"]


def long_ago(ticket: Ticket) -> None:
    """The end, so that the guest's patience is over."""
    set_times(ticket, ended_at=timezone.now() - timedelta(minutes=1))


@pytest.mark.parametrize(
    ("phase", "power", "told"),
    [
        ("ready", "running", True),
        ("ready", "off", True),  # it has just been started, and nobody has looked yet
        ("failed", "running", True),
        ("failed", "unknown", True),
        ("failed", "paused", True),
        ("quarantined", "running", True),
        ("provisioning", "running", True),
        ("deleting", "running", True),
        ("failed", "off", False),
        ("stopped", "off", False),
        ("deleted", "absent", False),
    ],
)
def test_every_machine_that_may_run_is_told(world: World, phase: str, power: str, told: bool) -> None:
    """A restart that failed leaves one that runs: its access is cut, and an end that it has not heard of is loud."""
    ticket = world.active()
    machine(world, phase=phase, power=power)
    ticket_revoke(actor=world.anna.actor, ticket=ticket)
    assert unended().exists() == told
    assert alarms() == []
    long_ago(ticket)
    assert alarms() == ["loud"] * told


def test_an_alarm_that_nothing_can_answer_ends_with_the_guests_own_time(world: World) -> None:
    ticket = world.active()
    machine(world, phase="failed", power="unknown")
    ticket_end(actor=world.asker.actor, ticket=ticket)
    long_ago(ticket)
    now = timezone.now()
    for until, wait_until, expected in (
        (now + timedelta(minutes=5), now, ["loud"]),
        (now - timedelta(seconds=1), now, []),
        (None, now, ["loud"]),
        (None, now - timedelta(hours=5), []),
    ):
        begun = wait_until - timedelta(minutes=1)
        moved = {"asked_at": begun - timedelta(hours=1), "wait_until": wait_until, "started_at": begun}
        set_times(ticket, guest_until=until, **moved, access_until=wait_until)
        assert alarms() == expected
    machine(world, phase="ready")
    assert alarms() == ["loud"], "one that answers should have said so"


def withdrawn(world: World) -> Ticket:
    return ticket_withdraw(actor=world.asker.actor, ticket=world.approved())


def timed_out(world: World) -> Ticket:
    ticket = world.approved()
    past = timezone.now() - timedelta(seconds=1)
    set_times(ticket, wait_until=past, asked_at=past - timedelta(hours=1))
    assert tickets_expire() == 1
    return ticket


def edited_away(world: World) -> Ticket:
    ticket = world.edited(world.approved(), paths=["other"])()
    assert not unended().exists(), "its present revision waits: the end would be that one's, too"
    return ticket_withdraw(actor=world.asker.actor, ticket=ticket)


def rejected(world: World) -> Ticket:
    ticket = world.open_for_two()
    world.approve(ticket, world.anna)
    return world.reject(ticket, world.bert)


@pytest.mark.parametrize("way", [withdrawn, timed_out, edited_away, rejected])
def test_a_ticket_that_was_ever_signed_is_ended_in_the_guest(
    world: World,
    way: Callable[[World], Ticket],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    """Nobody began it, but whoever has stolen its signatures could bring them to the guest in its time."""
    sent: list[Any] = []
    monkeypatch.setattr("celery.current_app.send_task", lambda name, args: sent.append((name, args[0])))
    machine(world)
    with django_capture_on_commit_callbacks(execute=True):
        ticket = way(world)
    assert list(unended()) == [ticket]
    assert not undelivered().exists()
    assert ("breakglass.tasks.grant_apply", str(ticket.pk)) in sent
    long_ago(ticket)
    assert alarms() == [], "nothing was begun that could go on"
    Ticket.objects.filter(pk=ticket.pk).update(end_confirmed_at=timezone.now())
    assert not unended().exists()


def test_what_nobody_signed_is_no_guests_business(world: World) -> None:
    machine(world)
    ticket_withdraw(actor=world.asker.actor, ticket=world.open())
    assert not unended().exists()
