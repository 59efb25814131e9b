"""Grants reach the guest and their ends do, whatever is lost, doubled or late; what the guest says is kept."""

import json
from typing import Any

import pytest

from audit.models import Entry
from breakglass import grants, pushing, receipts, tasks
from breakglass.models import Mismatch, Receipt, ReceiptHead, Ticket
from breakglass.pacing import Pace
from breakglass.services.endings import ticket_revoke
from breakglass.services.tickets import ticket_end
from provisioning.models import Runtime
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient
from tests.breakglass.access import Staffed
from tests.net import net

__all__ = ["net"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("net")]


@pytest.fixture(autouse=True)
def fresh_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process has failed to do is another test's."""
    for module in (grants, receipts, tasks):
        monkeypatch.setattr(module, "PACE", Pace())


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was told to workers on commit, and what the sweep sent again."""
    found: list[Any] = []
    monkeypatch.setattr("celery.current_app.send_task", lambda name, args: found.append((name, args[0])))
    return found


def noted(action: str) -> list[Any]:
    return [json.loads(row.event)["data"] for row in Entry.objects.filter(action=action).order_by("pk")]


def state(runtime: Runtime) -> dict[str, Any]:
    return RuntimeClient.urgent(runtime).status()


def fresh(ticket: Ticket) -> Ticket:
    return Ticket.objects.select_related("runtime", "tenant").get(pk=ticket.pk)


def test_from_start_to_end(people: Staffed, sent: list[Any]) -> None:
    """The start sends a task; the guest takes the grant; the end sends one, and the guest forgets nothing."""
    ticket = people.begun()
    told = ("breakglass.tasks.grant_apply", str(ticket.pk))
    assert sent.count(told) == 1
    tasks.grant_apply(str(ticket.pk))
    taken = fresh(ticket)
    assert taken.delivered_at is not None
    assert taken.guest_until is not None
    assert taken.access_until is not None
    assert abs((taken.guest_until - taken.access_until).total_seconds()) < 5
    assert state(taken.runtime)["grants"] == [str(ticket.pk)]
    (granted,) = noted("break_glass.granted")
    assert granted == {"revision": 1, "until": int(taken.guest_until.timestamp())}
    tasks.grant_apply(str(ticket.pk))
    assert len(noted("break_glass.granted")) == 1
    ticket_end(actor=people.greta.actor, ticket=taken)
    assert sent.count(told) == 2
    assert list(grants.unended()) == [ticket]
    tasks.grant_apply(str(ticket.pk))
    assert fresh(ticket).end_confirmed_at is not None
    assert state(taken.runtime)["grants"] == []
    assert noted("break_glass.end_confirmed") == [{"was_open": True, "streams": 0}]
    assert not grants.unended().exists()
    tasks.grant_apply(str(ticket.pk))
    assert len(noted("break_glass.end_confirmed")) == 1


def test_a_task_that_was_queued_before_the_revocation(people: Staffed, sent: list[Any]) -> None:
    """It does what the row says when it runs: it ends, and brings nothing."""
    ticket = people.begun()
    ticket_revoke(actor=people.anna.actor, ticket=ticket)
    tasks.grant_apply(str(ticket.pk))
    assert noted("break_glass.granted") == []
    assert state(ticket.runtime)["grants"] == []
    assert fresh(ticket).end_confirmed_at is not None


def test_an_end_that_overtakes_the_grant(people: Staffed, sent: list[Any]) -> None:
    """The grant is on its way when the end arrives: it opens nothing then, nor ever."""
    ticket = people.begun()
    grant = grants.grant_of(ticket).to_document()
    ticket_revoke(actor=people.anna.actor, ticket=ticket)
    tasks.grant_apply(str(ticket.pk))
    with pytest.raises(AgentRefused, match="ended"):
        RuntimeClient.urgent(ticket.runtime).deliver_grant(grant)
    assert state(ticket.runtime)["grants"] == []


@pytest.mark.parametrize("method", ["deliver_grant", "end_grant"])
def test_what_fails_is_sent_again(
    people: Staffed, sent: list[Any], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """By the sweep, once the guest has had a pause; a person's own wish waits for no pause."""
    ticket = people.begun()
    if method == "end_grant":
        tasks.grant_apply(str(ticket.pk))
        ticket_end(actor=people.greta.actor, ticket=ticket)
    calls: list[str] = []

    def silent(*args: Any) -> None:
        calls.append(method)
        raise AgentUnreachable("No answer.")

    with monkeypatch.context() as patch:
        patch.setattr(RuntimeClient, method, silent)
        tasks.grant_apply(str(ticket.pk))
        tasks.grant_apply(str(ticket.pk), True)
        assert calls == [method]
        tasks.grant_apply(str(ticket.pk))
        assert calls == [method] * 2
        monkeypatch.setattr("breakglass.pacing.BACK_OFF_SECONDS", 0.0)
        tasks.grant_apply(str(ticket.pk))
    asked: list[Any] = []
    monkeypatch.setattr(tasks.grant_apply, "apply_async", lambda args, **more: asked.append((args, more)))
    monkeypatch.setattr(tasks.receipts_fetch, "apply_async", lambda args, **more: None)
    tasks.access_sweep()
    assert asked == [((str(ticket.pk), True), {"expires": 4.0})]
    tasks.grant_apply(str(ticket.pk), True)
    done = fresh(ticket)
    assert (done.delivered_at is not None, done.end_confirmed_at is not None) == (True, method == "end_grant")
    tasks.access_sweep()
    assert len(asked) == 1


def test_a_guest_that_lacks_the_set_is_told_first(
    people: Staffed, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant that comes before the set that it rests on is taken all the same."""
    from tests.breakglass.staff import put_in_force

    put_in_force([people.anna, people.ben], [people.anna, people.ben], 2)
    ticket = people.begun()
    assert state(ticket.runtime)["approvers"]["version"] == 1
    tasks.grant_apply(str(ticket.pk))
    assert fresh(ticket).delivered_at is not None
    assert state(ticket.runtime)["approvers"]["version"] == 2


def test_a_refusal_is_on_the_ticket_and_on_record_once(
    people: Staffed, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its code. What the guest refuses for good is not tried again."""
    ticket = people.begun()

    calls: list[str] = []
    for code in ("suspended", "no_quorum"):

        def refuse(*args: Any, code: str = code) -> None:
            calls.append(code)
            raise AgentRefused(403, code)

        monkeypatch.setattr(RuntimeClient, "deliver_grant", refuse)
        tasks.grant_apply(str(ticket.pk))
        tasks.grant_apply(str(ticket.pk))
        assert fresh(ticket).delivery_refused == code
    assert calls == ["suspended", "suspended", "no_quorum"]
    told = [each["code"] for each in noted("break_glass.grant_refused")]
    assert told == ["suspended", "no_quorum"]
    assert not grants.undelivered().exists()


def test_a_new_set_ends_what_the_old_one_approved(people: Staffed, sent: list[Any]) -> None:
    """In the guest at once, as soon as it has the set; here at the next sweep."""
    from tests.breakglass.staff import put_in_force

    ticket = people.begun()
    tasks.grant_apply(str(ticket.pk))
    put_in_force([people.anna, people.ben], [people.anna, people.ben], 2)
    pushing.apply(ticket.runtime_id)
    assert state(ticket.runtime)["grants"] == []
    receipts.fetch(ticket.runtime_id)
    over = fresh(ticket)
    assert (over.state, over.ending) == ("revoked", "in_guest")


def test_receipts_are_kept_byte_for_byte(people: Staffed, sent: list[Any]) -> None:
    """With the guest's signed head and an entry that holds it; nothing new leaves nothing."""
    ticket = people.begun()
    tasks.grant_apply(str(ticket.pk))
    assert receipts.fetch(ticket.runtime_id) == 1
    ticket_end(actor=people.greta.actor, ticket=ticket)
    tasks.grant_apply(str(ticket.pk))
    assert receipts.fetch(ticket.runtime_id) == 1
    assert receipts.fetch(ticket.runtime_id) == 0
    rows = list(Receipt.objects.order_by("seq"))
    assert [(row.seq, row.event, row.ticket_id) for row in rows] == [
        (1, "granted", ticket.pk),
        (2, "ended", ticket.pk),
    ]
    assert rows[1].previous == rows[0].hash
    head = ReceiptHead.objects.get()
    assert (head.seq, head.hash, head.trouble) == (2, rows[1].hash, "")
    assert head.note.splitlines()[1] == "2"
    assert noted("break_glass.receipts") == [
        {"from": 1, "to": 1, "head": rows[0].hash},
        {"from": 2, "to": 2, "head": rows[1].hash},
    ]
    assert not Mismatch.objects.exists()


def test_when_a_guest_is_asked(people: Staffed, sent: list[Any]) -> None:
    """Often while a ticket is active, once after its end was confirmed, then now and then."""
    ticket = people.begun()
    assert [each.pk for each in receipts.due()] == [ticket.runtime_id]
    tasks.grant_apply(str(ticket.pk))
    receipts.fetch(ticket.runtime_id)
    assert not receipts.due().exists()
    back(seconds=receipts.PACE_SECONDS + 1)
    assert receipts.due().exists()
    receipts.fetch(ticket.runtime_id)
    ticket_end(actor=people.greta.actor, ticket=ticket)
    tasks.grant_apply(str(ticket.pk))
    back(seconds=receipts.PACE_SECONDS + 1)
    assert receipts.due().exists(), "its end is not read yet"
    receipts.fetch(ticket.runtime_id)
    back_end = fresh(ticket).end_confirmed_at
    assert back_end is not None
    assert not receipts.due().exists()
    back(seconds=receipts.QUIET_SECONDS + 1, after=ticket)
    assert receipts.due().exists()


def back(seconds: float, after: Ticket | None = None) -> None:
    """As if the last look had been so much earlier (and the end of ``after``, too)."""
    from datetime import timedelta

    from django.db.models import F

    ReceiptHead.objects.update(at=F("at") - timedelta(seconds=seconds))
    if after is not None:
        Ticket.objects.filter(pk=after.pk).update(
            end_confirmed_at=F("end_confirmed_at") - timedelta(seconds=seconds)
        )
