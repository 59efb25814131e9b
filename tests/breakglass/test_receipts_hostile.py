"""A guest that lies about others, drowns its alarms, or does not tell: none of it goes unseen."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.utils import timezone

from audit.acknowledging import NotAcknowledged
from audit.alerts import Alert, everywhere, loud
from audit.witnesses import witness_register
from breakglass import comparing, receipts, tasks
from breakglass.models import Mismatch, Receipt, ReceiptHead, Ticket
from breakglass.pacing import Pace
from breakglass.promises import access
from breakglass.services import ticket_end
from breakglass.services.mismatches import mismatch_acknowledge
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, vkey_of
from provisioning.deadlines import Clock
from provisioning.models import Runtime
from provisioning.runtime_client import (
    MAX_RECEIPTS_BYTES,
    AgentRefused,
    AgentUnreachable,
    RuntimeClient,
    _answer,
)
from tenants.models import Tenant
from tests.breakglass.access import Staffed, ready_machine
from tests.breakglass.lowered import triggers_down
from tests.breakglass.test_receipts import REASON, SEED, Guest, found, guest, noted, people  # noqa: F401
from tests.conftest import TESTER

pytestmark = pytest.mark.django_db


@pytest.fixture
def evil(
    guest: Guest,  # noqa: F811
    image: Any,
    make_host: Callable[[], Any],
    make_tenant: Callable[..., Tenant],
    monkeypatch: pytest.MonkeyPatch,
) -> Guest:
    """The guest of another tenant, which speaks of the ticket of ``guest``."""
    runtime = ready_machine(make_tenant("evil"), make_host(), image, "192.0.2.9:8443", 4)
    vkey = str(vkey_of(runtime_dns_name(str(runtime.pk)), SEED, COSIGNATURE_V1))
    witness_register(actor=TESTER, vkey=vkey, target=str(runtime.pk), tenant_id=runtime.tenant_id)
    other = Guest(runtime, guest.ticket)
    monkeypatch.setattr(RuntimeClient, "receipts", lambda client, after: other.page(after))
    return other


def told() -> list[Alert]:
    """What the staff see of this room."""
    return [alert for alert in everywhere() if alert.code.startswith("access")]


def looked_into(by: Staffed) -> None:
    for row in Mismatch.objects.filter(acknowledged_at=None):
        mismatch_acknowledge(actor=by.anna.actor, mismatch=row, reason=REASON)


def older(seconds: float) -> None:
    """As if the newest look at the guest had been so much earlier."""
    ReceiptHead.objects.update(at=timezone.now() - timedelta(seconds=seconds))


@pytest.mark.parametrize("event", ["ended", "outcome", "granted", "access"])
def test_a_guest_says_nothing_about_another_tenants_ticket(evil: Guest, event: str) -> None:
    """It ends nothing there, and that it tries is an alarm."""
    evil.add(event, code="done")
    assert evil.fetch() == 1
    assert Ticket.objects.get(pk=evil.ticket.pk).state == Ticket.State.ACTIVE
    assert found() == [("no_intent", 1)]
    assert Mismatch.objects.get().runtime == evil.runtime


@pytest.mark.parametrize("event", ["ended", "outcome", "refused"])
def test_a_ticket_that_nobody_knows(guest: Guest, event: str) -> None:  # noqa: F811
    guest.add(event, ticket=str(uuid4()), of="grant")
    guest.fetch()
    assert found() == [("no_intent", 1)]


def test_many_uses_are_few_alarms(guest: Guest, people: Staffed) -> None:  # noqa: F811
    """As many as one reads; the entry of what was read holds the number of all."""
    for _ in range(3 * comparing.MOST):
        guest.add("access", str(uuid4()))
    guest.fetch()
    assert Mismatch.objects.count() == comparing.MOST
    assert [each["unmeant"] for each in noted("break_glass.receipts")] == [3 * comparing.MOST]
    guest.add("access", str(uuid4()))
    guest.fetch()
    assert Mismatch.objects.count() == comparing.MOST
    looked_into(people)
    guest.add("access", str(uuid4()))
    guest.fetch()
    assert len(loud()) == 1, "the next one after somebody has looked is an alarm again"


def test_one_guests_alarms_hide_no_others(guest: Guest, evil: Guest) -> None:  # noqa: F811
    """However many one makes: a line for each guest and kind, the loud ones first."""
    Mismatch.objects.create(runtime=guest.runtime, kind=Mismatch.Kind.FORKED, seq=1)
    for number in range(30):
        Mismatch.objects.create(runtime=evil.runtime, kind=Mismatch.Kind.NO_INTENT, seq=number)
        Mismatch.objects.create(runtime=evil.runtime, kind=Mismatch.Kind.NO_RECEIPT, seq=number)
    lines = [(alert.about, alert.severity) for alert in told()]
    assert lines == [
        (str(guest.runtime), "loud"),
        (str(evil.runtime), "loud"),
        (str(evil.runtime), "alert"),
    ]
    assert "30 times" in told()[1].words


def test_a_chain_is_as_long_as_what_was_done(
    guest: Guest,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Receipts stay for good: beyond what requests and tickets can leave, nothing is taken any more."""
    monkeypatch.setattr(comparing, "SPARE", 3)
    monkeypatch.setattr(comparing, "PER_TICKET", 2)
    for _ in range(5):
        guest.add("ended", code="portal")
    assert guest.fetch() == 5
    guest.add("ended", code="portal")
    assert guest.fetch() == 0
    assert found() == [("chain", 5)]
    assert ReceiptHead.objects.get().trouble == "too_many"
    guest.meant()
    assert guest.fetch() == 1, "another request leaves more"


def test_what_does_not_fit_is_loud_as_long_as_it_lasts(
    guest: Guest,  # noqa: F811
    people: Staffed,  # noqa: F811
) -> None:
    """Also when somebody has looked into it: nothing is read meanwhile. Other machines may start again."""
    guest.answer = {"head": "none"}
    guest.fetch()
    assert not access()[0]
    looked_into(people)
    guest.add("access", str(uuid4()))
    guest.fetch()
    assert not Mismatch.objects.filter(acknowledged_at=None).exists()
    assert [alert.code for alert in loud()] == ["access_refused"]
    assert access()[0]
    guest.answer = {}
    guest.fetch()
    assert [alert.code for alert in loud()] == ["access_mismatch"], "it is read again, and tells"


def unreachable(client: RuntimeClient, after: int) -> Any:
    raise AgentUnreachable("No answer.")


def broken(client: RuntimeClient, after: int) -> Any:
    raise AgentRefused(500, "unknown")


@pytest.mark.parametrize("answer", [unreachable, broken])
@pytest.mark.parametrize("before", [True, False])
def test_a_guest_that_does_not_tell(
    guest: Guest,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[..., Any],
    before: bool,
) -> None:
    """Used two minutes ago, and not asked with success since: loud, whether or not it ever was."""
    if before:
        guest.fetch()
        older(seconds=300)
    guest.meant(age=comparing.UNREAD.total_seconds() - 5)
    monkeypatch.setattr(RuntimeClient, "receipts", answer)
    tasks.receipts_fetch(str(guest.runtime.pk))
    assert loud() == []
    guest.meant("/break-glass", age=comparing.UNREAD.total_seconds() + 5)
    assert [(alert.code, alert.about) for alert in loud()] == [("access_unread", str(guest.runtime))]
    monkeypatch.setattr(RuntimeClient, "receipts", lambda client, after: guest.page(after))
    monkeypatch.setattr(receipts, "PACE", Pace())
    guest.fetch()
    assert loud() == []
    Runtime.objects.update(phase=Runtime.Phase.STOPPED)
    with triggers_down():
        ReceiptHead.objects.all().delete()
    assert loud() == [], "one that does not run tells later"


@pytest.mark.parametrize("column", ["delivered_at", "end_confirmed_at"])
def test_a_guest_that_does_not_tell_of_its_grant_or_end(
    guest: Guest,  # noqa: F811
    people: Staffed,  # noqa: F811
    column: str,
) -> None:
    ticket_end(actor=people.greta.actor, ticket=guest.ticket)
    then = timezone.now() - comparing.UNREAD - timedelta(seconds=5)
    Ticket.objects.update(**{"end_confirmed_at": timezone.now(), column: then})
    assert [alert.code for alert in loud()] == ["access_unread"]
    guest.fetch()
    assert loud() == []


@pytest.mark.parametrize("levels", [10, 25])
def test_nesting_is_no_way_out(guest: Guest, levels: int) -> None:  # noqa: F811
    """What pages could not read again is a chain that does not fit; nor does the task die without a word."""
    nest: Any = []
    for _ in range(levels):
        nest = [nest]
    guest.add("ended", code=nest)
    assert guest.fetch() == 0
    assert found() == [("chain", 0)]
    assert not Receipt.objects.exists()


def test_an_answer_that_no_parser_follows() -> None:
    content = b'{"receipts":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(AgentUnreachable, match="not JSON"):
        _answer(httpx.Response(200, content=content), MAX_RECEIPTS_BYTES, Clock())


def test_one_alarm_for_all_lost_requests_of_a_ticket(
    guest: Guest,  # noqa: F811
    people: Staffed,  # noqa: F811
) -> None:
    """A guest notes a hundred refusals of a ticket, and a browser may be closed as often as one likes."""
    other = people.begun()
    first = guest.meant(age=70)
    for _ in range(5):
        guest.meant(age=60)
    second = guest.meant(ticket=other, age=60)
    guest.fetch()
    comparing.note_missing()
    assert [row.token for row in Mismatch.objects.order_by("token")] == sorted([first, second])
    looked_into(people)
    comparing.note_missing()
    assert Mismatch.objects.count() == 2, "they were all looked into"
    with triggers_down():
        Mismatch.objects.update(acknowledged_at=timezone.now() - timedelta(seconds=50))
    third = guest.meant(age=40)
    comparing.note_missing()
    assert Mismatch.objects.get(acknowledged_at=None).token == third


def test_other_methods_have_no_receipt(guest: Guest) -> None:  # noqa: F811
    """The agent answers them before its gate."""
    guest.meant("/v1/break-glass/folders", age=60)
    guest.fetch()
    comparing.note_missing()
    assert found() == []


@pytest.mark.parametrize("kind", [Mismatch.Kind.NO_INTENT, Mismatch.Kind.CHAIN])
@pytest.mark.parametrize("named", [True, False])
def test_nobody_looks_into_their_own_access(
    guest: Guest,  # noqa: F811
    people: Staffed,  # noqa: F811
    kind: Mismatch.Kind,
    named: bool,
) -> None:
    """Not of the ticket, nor of a machine that they were in by then, whatever ticket the machine names."""
    ticket = guest.ticket.pk if named else uuid4()
    row = Mismatch.objects.create(runtime=guest.runtime, kind=kind, ticket=ticket, seq=3)
    with pytest.raises(NotAcknowledged, match="somebody else"):
        mismatch_acknowledge(actor=people.greta.actor, mismatch=row, reason=REASON)
    ticket_end(actor=people.greta.actor, ticket=guest.ticket)
    with pytest.raises(NotAcknowledged, match="somebody else"):
        mismatch_acknowledge(actor=people.greta.actor, mismatch=row, reason=REASON)
    mismatch_acknowledge(actor=people.anna.actor, mismatch=row, reason=REASON)
    long_after = timezone.now() + comparing.LOOKED_BACK + timedelta(minutes=1)
    anew = {"found_at": long_after, "acknowledged_at": None, "acknowledged_by": None, "why": ""}
    with triggers_down():
        Mismatch.objects.filter(pk=row.pk).update(**anew)
    row.refresh_from_db()
    if named:
        with pytest.raises(NotAcknowledged, match="somebody else"):
            mismatch_acknowledge(actor=people.greta.actor, mismatch=row, reason=REASON)
    else:
        mismatch_acknowledge(actor=people.greta.actor, mismatch=row, reason=REASON)
