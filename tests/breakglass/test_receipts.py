"""Receipts that do not fit are an alarm: each break of the chain, each use that nobody meant, each silence."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from audit.acknowledging import NotAcknowledged
from audit.alerts import everywhere, loud
from audit.context import Actor
from audit.models import Entry
from audit.witnesses import witness_register
from breakglass import comparing, receipts, tasks
from breakglass.alerts import PATIENCE
from breakglass.models import Intent, Mismatch, Receipt, ReceiptHead, Ticket
from breakglass.pacing import Pace
from breakglass.promises import access
from breakglass.services.endings import ticket_revoke
from breakglass.services.mismatches import mismatch_acknowledge
from guest.agent.breakglass.scopes import RULES
from protocol.access_receipts import START, Position, following, head_note
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, vkey_of
from provisioning.models import Runtime
from provisioning.runtime_client import AgentUnreachable, RuntimeClient
from tenants.models import Tenant
from tests.breakglass.access import Staffed, ready_machine, staffed
from tests.conftest import TESTER

pytestmark = pytest.mark.django_db
SEED = bytes(range(32))
REASON = "The operator closed the tab before the answer came."


@dataclass
class Guest:
    """What stands in for a guest: a chain that a test writes, and can be made to lie."""

    runtime: Runtime
    ticket: Ticket
    chain: list[dict[str, Any]] = field(default_factory=list)
    position: Position = START
    answer: dict[str, Any] = field(default_factory=dict)
    """Members that replace those of the answer."""

    def add(self, event: str, token: str = "", **given: Any) -> dict[str, Any]:
        """The next receipt."""
        made = following(
            given.pop("after", self.position),
            runtime_id=given.pop("runtime_id", str(self.runtime.pk)),
            at=given.pop("at", int(timezone.now().timestamp())),
            ticket=given.pop("ticket", str(self.ticket.pk)),
            digest="",
            event=event,
            token=token,
            detail=given,
        )
        self.chain.append(made.document)
        self.position = made.position
        return made.document

    def head(self, position: Position | None = None, seed: bytes = SEED) -> str:
        return head_note(str(self.runtime.pk), position or self.position, seed)

    def page(self, after: int) -> dict[str, Any]:
        """In place of ``RuntimeClient.receipts``."""
        found = [each for each in self.chain if each["seq"] > after][:200]
        return {"receipts": found, "head": self.head(), **self.answer}

    def fetch(self) -> int:
        return receipts.fetch(self.runtime.pk)

    def meant(self, route: str = "/v1/break-glass/list", ticket: Ticket | None = None, age: float = 0) -> str:
        """An intent, so many seconds old; its token."""
        then = timezone.now() - timedelta(seconds=age)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("django.utils.timezone.now", lambda: then)
            made = Intent.objects.create(
                ticket=ticket or self.ticket, token=str(uuid4()), route=route, method="GET"
            )
        return made.token


@pytest.fixture
def people(
    tenant: Tenant, owner: User, make_user: Callable[..., User], image: Any, make_host: Any
) -> Staffed:
    ready_machine(tenant, make_host(), image, "192.0.2.2:8443")
    return staffed(tenant, owner, make_user)


@pytest.fixture
def guest(people: Staffed, monkeypatch: pytest.MonkeyPatch) -> Guest:
    ticket = people.begun()
    runtime = ticket.runtime
    name = runtime_dns_name(str(runtime.pk))
    vkey = str(vkey_of(name, SEED, COSIGNATURE_V1))
    witness_register(actor=TESTER, vkey=vkey, target=str(runtime.pk), tenant_id=runtime.tenant_id)
    found = Guest(runtime, ticket)
    monkeypatch.setattr(RuntimeClient, "receipts", lambda client, after: found.page(after))
    monkeypatch.setattr(receipts, "PACE", Pace())
    return found


def found() -> list[tuple[str, int]]:
    return list(Mismatch.objects.order_by("pk").values_list("kind", "seq"))


def noted(action: str) -> list[Any]:
    return [json.loads(row.event)["data"] for row in Entry.objects.filter(action=action).order_by("pk")]


def test_an_honest_chain_raises_nothing(guest: Guest) -> None:
    guest.add("granted", people=["user:1"])
    token = guest.meant()
    guest.add("session", guest.meant("/v1/break-glass/sessions"))
    guest.add("access", token, scope="workspace:read", path="reports")
    guest.add("outcome", token, status=200)
    guest.add("refused", guest.meant(), code="wrong_path", of="request")
    guest.add("refused", code="too_late", of="grant")
    guest.add("ended", code="portal")
    assert guest.fetch() == 7
    assert found() == []
    assert loud() == []


def test_many_pages(guest: Guest) -> None:
    """More than one answer holds: all are taken, each page with its entry; the head is that of the last."""
    token = guest.meant()
    for _ in range(450):
        guest.add("access", token)
    assert guest.fetch() == 450
    assert [each["to"] for each in noted("break_glass.receipts")] == [200, 400, 450]
    head = ReceiptHead.objects.get()
    assert (head.seq, head.note) == (450, guest.head())


@pytest.mark.parametrize("event", ["access", "session", "refused"])
def test_a_use_that_nobody_meant(guest: Guest, event: str) -> None:
    """A token that web never wrote down: somebody else holds the route key. Red on every staff page."""
    guest.add(event, str(uuid4()))
    guest.fetch()
    assert found() == [("no_intent", 1)]
    assert [alert.code for alert in loud()] == ["access_mismatch"]
    (about,) = noted("break_glass.mismatch")
    assert (about["kind"], about["seq"]) == ("no_intent", 1)


def test_no_machine_starts_while_it_is_not_looked_into(guest: Guest) -> None:
    """It is a no-go condition; a lost receipt alone is not."""
    guest.add("granted")
    guest.fetch()
    Mismatch.objects.create(runtime=guest.runtime, kind=Mismatch.Kind.NO_RECEIPT, token="x")
    assert access()[0]
    guest.add("access", str(uuid4()))
    guest.fetch()
    kept, evidence = access()
    assert not kept
    assert "access_mismatch" in evidence


def test_an_intent_of_another_ticket_is_none(guest: Guest, people: Staffed) -> None:
    """The token was written down, for something else."""
    other = people.begun()
    guest.add("access", guest.meant(ticket=other))
    guest.fetch()
    assert found() == [("no_intent", 1)]


def test_a_grant_that_nobody_began(guest: Guest, people: Staffed) -> None:
    """A ticket that is unknown here, or that its requester has not begun."""
    waits = people.asked()
    for ticket in (uuid4(), waits.pk, guest.ticket.pk):
        guest.add("granted", ticket=str(ticket))
    guest.fetch()
    assert found() == [("no_intent", 1), ("no_intent", 2)]


def tampered(guest: Guest) -> None:
    guest.chain[1]["detail"] = {"path": "something else"}


def left_out(guest: Guest) -> None:
    del guest.chain[1]


def of_another_guest(guest: Guest) -> None:
    guest.add("access", runtime_id=str(uuid4()))


def of_no_ticket(guest: Guest) -> None:
    guest.add("access", ticket="none")


def odd_token(guest: Guest) -> None:
    guest.add("access", "\0")


def far_future(guest: Guest) -> None:
    guest.add("access", at=2**40)


def other_key(guest: Guest) -> None:
    guest.answer = {"head": guest.head(seed=bytes(32))}


def head_beyond(guest: Guest) -> None:
    guest.answer = {"receipts": []}


def head_behind(guest: Guest) -> None:
    guest.answer = {"head": guest.head((2, guest.chain[1]["previous"]))}


def head_of_others(guest: Guest) -> None:
    guest.answer = {"head": guest.head((3, "ab" * 32))}


def no_list(guest: Guest) -> None:
    guest.answer = {"receipts": None}


def a_word(guest: Guest) -> None:
    guest.answer = {"receipts": ["granted"]}


@pytest.mark.parametrize(
    "lie",
    [
        tampered,
        left_out,
        of_another_guest,
        of_no_ticket,
        odd_token,
        far_future,
        other_key,
        head_beyond,
        head_behind,
        head_of_others,
        no_list,
        a_word,
    ],
)
def test_a_chain_that_does_not_fit(guest: Guest, lie: Callable[[Guest], None]) -> None:
    """Nothing of it is taken; it is one alarm, however often it is looked at, and over when it fits again."""
    for _ in range(3):
        guest.add("ended", code="portal")
    honest = [dict(each) for each in guest.chain], guest.position
    lie(guest)
    for _ in range(2):
        assert guest.fetch() == 0
    assert found() == [("chain", 0)]
    assert not Receipt.objects.exists()
    head = ReceiptHead.objects.get()
    assert (head.seq, head.trouble != "") == (0, True)
    (guest.chain, guest.position), guest.answer = honest, {}
    assert guest.fetch() == 3
    assert ReceiptHead.objects.get().trouble == ""
    assert [alert.code for alert in loud()] == ["access_mismatch"], "until somebody has looked into it"


def test_other_receipts_than_before(guest: Guest) -> None:
    """Set back to before what was read, or another history from there: a restored disk, or a guest gone bad."""
    for _ in range(3):
        guest.add("ended", code="portal")
    assert guest.fetch() == 3
    whole, position = list(guest.chain), guest.position
    guest.chain, guest.position = whole[:2], (2, whole[2]["previous"])
    assert guest.fetch() == 0
    assert found() == [("forked", 2)]
    guest.add("ended", code="owner")
    assert guest.fetch() == 0
    assert found() == [("forked", 2), ("forked", 3)]
    guest.add("ended", code="owner")
    assert guest.fetch() == 0
    assert found() == [("forked", 2), ("forked", 3)]
    assert Receipt.objects.count() == 3
    guest.chain, guest.position = whole, position
    assert guest.fetch() == 0
    assert ReceiptHead.objects.get().trouble == ""


def test_an_intent_without_a_receipt(guest: Guest) -> None:
    """Told when the guest was read well after it; only where the guest keeps a receipt of each request."""
    guest.meant("/break-glass", age=60)
    guest.meant("/v1/break-glass", age=60)
    guest.meant(age=10)
    answered, lost = guest.meant(age=60), guest.meant(age=60)
    guest.add("access", answered)
    comparing.note_missing()
    assert found() == [], "nobody has asked the guest yet"
    guest.fetch()
    comparing.note_missing()
    comparing.note_missing()
    assert [(row.kind, row.token) for row in Mismatch.objects.all()] == [("no_receipt", lost)]
    assert loud() == [], "a browser that went away looks the same"
    assert [alert.code for alert in everywhere() if alert.code.startswith("access")] == ["access_mismatch"]


def test_the_routes_with_receipts_are_the_agents() -> None:
    scoped = {route for route, rule in RULES.items() if rule.scope is not None}
    assert scoped == comparing.RECEIPTED


@pytest.mark.parametrize(
    ("code", "after"),
    [("done", ("ended", "done")), ("expired", ("expired", "time")), ("owner", ("revoked", "in_guest"))],
)
def test_what_ends_in_the_guest_ends_here(guest: Guest, code: str, after: tuple[str, str]) -> None:
    guest.add("ended", code=code)
    guest.fetch()
    over = Ticket.objects.get(pk=guest.ticket.pk)
    assert (over.state, over.ending) == after


def test_a_guest_without_a_key_is_not_believed(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """It states none of its own: nothing is read."""
    for module in ("breakglass.receipts", "provisioning.witnessing"):
        monkeypatch.setattr(f"{module}.guest_of", lambda runtime: None)
    monkeypatch.setattr(RuntimeClient, "status", lambda client: {"witness": None})
    guest.add("ended", code="portal")
    with pytest.raises(AgentUnreachable):
        guest.fetch()
    tasks.receipts_fetch(str(guest.runtime.pk))
    assert not Receipt.objects.exists()


def test_two_workers_take_each_receipt_once(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The later one finds the head moved, and keeps nothing."""
    guest.add("ended", code="portal")
    real = guest.page

    def overtaken(client: RuntimeClient, after: int) -> dict[str, Any]:
        monkeypatch.setattr(RuntimeClient, "receipts", real_page)
        monkeypatch.setattr(receipts, "PACE", Pace())
        assert guest.fetch() == 1
        return real(after)

    def real_page(client: RuntimeClient, after: int) -> dict[str, Any]:
        return real(after)

    monkeypatch.setattr(RuntimeClient, "receipts", overtaken)
    assert guest.fetch() == 0
    assert Receipt.objects.count() == 1
    assert len(noted("break_glass.receipts")) == 1


def test_an_end_that_no_guest_confirms(guest: Guest, people: Staffed) -> None:
    """Loud after half a minute, while the machine runs."""
    ticket_revoke(actor=people.anna.actor, ticket=guest.ticket)
    assert loud() == []
    Ticket.objects.filter(pk=guest.ticket.pk).update(end_confirmed_at=None)
    later = timezone.now() + PATIENCE + timedelta(seconds=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("breakglass.alerts.timezone.now", lambda: later)
        assert [alert.code for alert in loud()] == ["access_not_ended"]
        Ticket.objects.filter(pk=guest.ticket.pk).update(end_confirmed_at=later)
        assert loud() == []


def test_acknowledging(guest: Guest, operator: User) -> None:
    """By a person, with a reason, once; the row keeps its commitment and the evidence."""
    guest.add("access", str(uuid4()))
    guest.fetch()
    row = Mismatch.objects.get()
    for actor, reason in ((TESTER, REASON), (Actor.of(operator), "short")):
        with pytest.raises(NotAcknowledged):
            mismatch_acknowledge(actor=actor, mismatch=row, reason=reason)
    assert len(loud()) == 1
    mismatch_acknowledge(actor=Actor.of(operator), mismatch=row, reason=REASON)
    assert loud() == []
    row.refresh_from_db()
    assert row.acknowledged_by == operator
    entry = Entry.objects.get(action="break_glass.mismatch_acknowledged")
    assert row.why in entry.event
    assert REASON not in entry.event
    with pytest.raises(NotAcknowledged, match="already"):
        mismatch_acknowledge(actor=Actor.of(operator), mismatch=row, reason=REASON)
    assert UUID(str(guest.ticket.pk)) == row.ticket
