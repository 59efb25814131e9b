"""Ends reach guests without a broker, and whatever else goes wrong beside them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from breakglass import carrying, comparing, grants, tasks
from breakglass.carrying import Carrier
from breakglass.models import Ticket
from breakglass.pacing import Pace
from breakglass.services.endings import ticket_revoke
from provisioning.models import Runtime
from provisioning.runtime_client import AgentUnreachable, RuntimeClient
from tests.breakglass.access import Staffed
from tests.breakglass.world import World
from tests.provisioning.workers import ROOT

PROMISED_SECONDS = 5.0
NO_BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def fresh_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "PACE", Pace())


@pytest.fixture
def urgent_worker(children_environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """As it is started everywhere, and no broker anywhere. Its log."""
    command = [sys.executable, "-m", "celery", "-A", "portal.urgent", "worker"]
    options = ["--pool", "threads", "--concurrency", "2", "--loglevel", "INFO"]
    path = tmp_path / "urgent.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env={**children_environment, "REDIS_URL": NO_BROKER},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        yield path
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(what: Callable[[], bool], seconds: float) -> float:
    """How long it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "not reached in time"
        time.sleep(0.05)
    return time.monotonic() - began


def confirmed(ticket: Ticket) -> bool:
    return Ticket.objects.get(pk=ticket.pk).end_confirmed_at is not None


@pytest.mark.django_db(transaction=True)
def test_a_revocation_is_carried_with_the_broker_down(people: Staffed, urgent_worker: Path) -> None:
    """No message comes through; the urgent worker looks at the rows by a clock of its own."""
    ticket = people.begun()
    grants.apply(ticket.pk)
    until(lambda: b"Cannot connect to redis" in urgent_worker.read_bytes(), 60)
    ticket_revoke(actor=people.anna.actor, ticket=ticket)
    assert until(lambda: confirmed(ticket), 30) < PROMISED_SECONDS
    assert RuntimeClient.urgent(ticket.runtime).status()["grants"] == []


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    found = Carrier()
    yield found
    found.stop()
    found.settle()


@pytest.mark.django_db(transaction=True)
class TestRounds:
    @pytest.fixture(autouse=True)
    def reached(self, world: World) -> None:
        Runtime.objects.filter(pk=world.runtime.pk).update(agent_address="192.0.2.2:8443")

    def test_one_that_does_not_answer_holds_up_no_other(
        self, world: World, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor is it told twice at once."""
        slow, quick = world.active(), world.active()
        told: list[str] = []
        free = threading.Event()

        def end(client: RuntimeClient, ticket: str) -> dict[str, Any]:
            told.append(ticket)
            if ticket == str(slow.pk) and not free.wait(20):
                raise AgentUnreachable("No answer.")
            return {"ended": True, "streams": 0}

        monkeypatch.setattr(RuntimeClient, "end_grant", end)
        for ticket in (slow, quick):
            ticket_revoke(actor=world.anna.actor, ticket=ticket)
        carrier.round()
        until(lambda: confirmed(quick), 10)
        carrier.round()
        assert not confirmed(slow)
        free.set()
        until(lambda: confirmed(slow), 10)
        assert sorted(told) == sorted([str(slow.pk), str(quick.pk)])

    def test_what_is_over_by_the_clock_is_closed_and_told(
        self, world: World, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ticket = world.active()
        monkeypatch.setattr(RuntimeClient, "end_grant", lambda *args: {"ended": True, "streams": 0})
        User.objects.filter(pk=world.asker.user.pk).update(is_active=False)
        carrier.round()
        until(lambda: confirmed(ticket), 10)
        assert world.fresh(ticket).ending == "requester_gone"

    def test_a_part_that_fails_stops_no_other(
        self, world: World, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> None:
            raise RuntimeError("one bad row")

        ticket = world.active()
        ticket_revoke(actor=world.anna.actor, ticket=ticket)
        monkeypatch.setattr(carrying, "tickets_expire", fail)
        monkeypatch.setattr(RuntimeClient, "end_grant", lambda *args: {"ended": True, "streams": 0})
        carrier.round()
        until(lambda: confirmed(ticket), 10)


@pytest.mark.parametrize("bad", ["tickets_expire", "_send_tickets", "_send_fetches"])
def test_a_part_of_the_sweep_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    done: list[str] = []
    for name in ("tickets_expire", "_send_tickets", "_send_fetches"):

        def part(name: str = name) -> None:
            if name == bad:
                raise RuntimeError("one bad row")
            done.append(name)

        monkeypatch.setattr(tasks, name, part)
    monkeypatch.setattr(comparing, "note_missing", lambda: done.append("note_missing"))
    tasks.access_sweep()
    assert len(done) == 3
