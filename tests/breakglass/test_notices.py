"""Who hears of a ticket, when, and what the message says: mail to people, signed calls to addresses."""

import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail import EmailMessage
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from audit.context import command
from audit.models import Entry
from breakglass import notices, sending
from breakglass.models import Notice, Review, Ticket, Webhook
from breakglass.services import ticket_end, ticket_revoke, ticket_withdraw
from breakglass.services.webhooks import key_of, webhook_add, webhook_retire
from provisioning.wrapping import WrappingError
from tests.breakglass.expecting import refused
from tests.breakglass.lowered import set_times
from tests.breakglass.world import REASON, World

pytestmark = pytest.mark.django_db
TESTER = command("test")


@pytest.fixture(autouse=True)
def _addresses(world: World) -> None:
    for user in User.objects.all():
        User.objects.filter(pk=user.pk).update(email=f"{user.username}@example.org")


@dataclass
class Receiver:
    """An address on loopback: what it was sent, and the status that it answers."""

    url: str = ""
    status: int = 200
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append((dict(self.headers), body))
            self.send_response(found.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            found.got.append((dict(self.headers), b"followed"))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def told(kind: str) -> set[str]:
    """The people who are to hear of it."""
    rows = Notice.objects.filter(kind=kind, channel="mail")
    return set(rows.values_list("user__username", flat=True))


def test_approvers_and_the_tenant_hear_of_a_request(world: World) -> None:
    world.open()
    assert told("requested") == {"anna", "bert", "carl", "owner"}


def test_whoever_cannot_approve_is_not_asked(world: World) -> None:
    """The requester, though an approver; and accounts that are closed."""
    world.next_set(*world.approvers, world.asker)
    User.objects.filter(username="bert").update(is_active=False)
    world.open()
    assert told("requested") == {"anna", "carl", "owner"}


def test_in_an_emergency_all_who_were_skipped_hear_at_once(world: World) -> None:
    """When it is asked, and again when it begins: whoever was not needed, and the tenant."""
    world.active(kind="emergency")
    assert told("emergency") == {"anna", "bert", "carl", "owner"}
    assert told("started") == {"anna", "bert", "carl", "owner"}
    assert not Notice.objects.filter(due_at__gt=timezone.now() + timedelta(seconds=1)).exists()


def test_the_way_to_the_end(world: World) -> None:
    ticket = world.active()
    assert told("approved") == {"asker", "owner"}
    assert told("started") == {"owner"}
    ticket_end(actor=world.asker.actor, ticket=ticket)
    assert told("over") == {"asker", "anna", "owner"}


def test_notices_stand_or_fall_with_the_change(world: World) -> None:
    with transaction.atomic():
        world.open()
        transaction.set_rollback(True)
    assert Notice.objects.count() == 0


def test_mail_says_where_to_look_and_no_more(world: World) -> None:
    ticket = world.open(paths=["payroll"], incident="https://status.example/4711")
    assert sending.send_due() == 4
    assert {message.to[0] for message in mail.outbox} == {
        *("anna@example.org", "bert@example.org", "carl@example.org", "owner@example.org")
    }
    for message in mail.outbox:
        place = "/t/acme" if message.to == ["owner@example.org"] else ""
        assert f"http://portal.localhost:8000{place}/break-glass/{ticket.pk}/" in message.body
        for words in (REASON, "payroll", "4711", "asker"):
            assert words not in f"{message.subject} {message.body}"
    assert sending.send_due() == 0
    assert len(mail.outbox) == 4


def test_who_has_no_address_is_noted(world: World) -> None:
    User.objects.filter(username="anna").update(email="")
    world.open()
    assert sending.send_due() == 3
    notice = Notice.objects.get(user=world.anna.user)
    assert (notice.failed, notice.attempts) == ("no_address", sending.MAX_ATTEMPTS)


def test_what_fails_is_tried_again_later_and_not_for_ever(world: World, monkeypatch: Any) -> None:
    def fails(self: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(EmailMessage, "send", fails)
    world.open()
    assert sending.send_due() == 0
    notice = Notice.objects.all()[0]
    assert (notice.failed, notice.attempts) == ("mail_unreachable", 1)
    assert (notice.due_at - timezone.now()).total_seconds() == pytest.approx(30, abs=5)
    pauses = []
    for _ in range(20):
        Notice.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        sending.send_due()
        notice.refresh_from_db()
        pauses.append(round((notice.due_at - timezone.now()).total_seconds()))
    assert notice.attempts == sending.MAX_ATTEMPTS
    assert pauses[:3] == [pytest.approx(60, abs=5), pytest.approx(120, abs=5), pytest.approx(240, abs=5)]


def test_one_of_two_workers_sends_it(world: World) -> None:
    """The second finds that another has taken it."""
    world.open()
    notice = Notice.objects.all()[0]
    assert sending._claim(notice)
    assert not sending._claim(notice)


def test_a_webhook_is_told_and_can_check_who_tells(world: World, receiver: Receiver) -> None:
    hook, key = webhook_add(actor=TESTER, name="Pager", url=receiver.url)
    ticket = world.open()
    sending.send_due()
    ((headers, body),) = receiver.got
    at, _, shown = headers["X-Portal-Signature"].partition(",v1=")
    signed = f"{at.removeprefix('t=')}.".encode() + body
    assert shown == hmac.new(bytes.fromhex(key), signed, sha256).hexdigest()
    assert json.loads(body) == {
        "format": "break-glass notice v1",
        "notice": Notice.objects.get(endpoint=hook).pk,
        "kind": "requested",
        "ticket": str(ticket.pk),
        "revision": 1,
        "state": "pending",
        "link": f"http://portal.localhost:8000/break-glass/{ticket.pk}/",
    }


def test_a_tenants_webhook_hears_of_its_tickets_only(
    world: World, receiver: Receiver, make_tenant: Any
) -> None:
    other, _ = webhook_add(actor=TESTER, name="Globex", url=receiver.url, tenant=make_tenant("globex"))
    own, _ = webhook_add(actor=TESTER, name="Acme", url=receiver.url, tenant=world.tenant)
    world.open()
    assert Notice.objects.filter(endpoint=own).count() == 1
    assert Notice.objects.filter(endpoint=other).count() == 0


@pytest.mark.parametrize("status", [301, 302, 400, 500])
def test_only_a_yes_counts(world: World, receiver: Receiver, status: int) -> None:
    """A redirect is not followed."""
    receiver.status = status
    webhook_add(actor=TESTER, name="Pager", url=receiver.url)
    world.open()
    sending.send_due()
    notice = Notice.objects.get(channel="webhook")
    assert (notice.sent_at, notice.failed, len(receiver.got)) == (None, "unreachable", 1)


def test_in_production_nothing_private_is_called(
    world: World, receiver: Receiver, settings: Any, monkeypatch: Any
) -> None:
    """Neither loopback nor a guest's network: no connection is begun."""
    called: list[Any] = []
    monkeypatch.setattr(httpx, "Client", lambda *args, **kwargs: called.append(kwargs))
    for url in (receiver.url, "https://10.185.0.2/", "https://127.0.0.1/", "https://169.254.169.254/latest"):
        webhook_add(actor=TESTER, name="Pager", url=url)
    world.open()
    settings.PRODUCTION = True
    sending.send_due()
    assert not called
    failed = Notice.objects.filter(channel="webhook").values_list("failed", flat=True)
    assert list(failed) == ["unreachable"] * 4


@pytest.mark.parametrize(
    "url",
    ["http://pager.example/", "ftp://pager.example/", "https://user:pw@pager.example/", "https://", "x"],
)
def test_urls_that_are_not_taken(world: World, url: str) -> None:
    with refused("bad_url"):
        webhook_add(actor=TESTER, name="Pager", url=url)


def test_a_retired_webhook_hears_nothing_and_its_key_is_gone(world: World, receiver: Receiver) -> None:
    hook, key = webhook_add(actor=TESTER, name="Pager", url=receiver.url)
    world.open()
    webhook_retire(actor=TESTER, webhook=hook)
    sending.send_due()
    assert not receiver.got
    assert Notice.objects.get(endpoint=hook).failed == "retired"
    hook.refresh_from_db()
    with pytest.raises(WrappingError):
        key_of(hook)
    with refused("retired"):
        webhook_retire(actor=TESTER, webhook=hook)
    assert key not in " ".join(Entry.objects.values_list("event", flat=True))


def test_the_key_stands_wrapped_and_belongs_to_its_row(world: World) -> None:
    one, key = webhook_add(actor=TESTER, name="One", url="https://one.example/")
    two, _ = webhook_add(actor=TESTER, name="Two", url="https://two.example/")
    assert bytes.fromhex(key) not in bytes(one.key)
    two.key = one.key
    with pytest.raises(WrappingError):
        key_of(two)


class TestReminders:
    def test_once_and_only_who_has_not_decided(self, world: World) -> None:
        world.approve(world.open_for_two(), world.anna)
        assert notices.remind() == 0
        Notice.objects.update(due_at=timezone.now() - timedelta(minutes=31))
        assert notices.remind() == 1
        assert told("reminder") == {"bert", "carl"}
        assert notices.remind() == 0

    def test_an_edit_is_asked_and_reminded_anew(self, world: World) -> None:
        ticket = world.open()
        Notice.objects.update(due_at=timezone.now() - timedelta(minutes=31))
        notices.remind()
        world.edited(ticket, paths=["other"])()
        assert notices.remind() == 0
        assert Notice.objects.filter(kind="requested", revision=2).count() == 4

    def test_not_of_what_is_over(self, world: World) -> None:
        tickets = world.open(), world.open()
        ticket_withdraw(actor=world.asker.actor, ticket=tickets[0])
        set_times(tickets[1], wait_until=timezone.now(), asked_at=timezone.now() - timedelta(hours=4))
        Notice.objects.update(due_at=timezone.now() - timedelta(minutes=31))
        assert notices.remind() == 0

    def test_overdue_reviews_are_told_once(self, world: World) -> None:
        ticket_end(actor=world.asker.actor, ticket=world.active(kind="emergency"))
        assert notices.remind() == 0
        Review.objects.update(due_at=timezone.now() - timedelta(minutes=1))
        assert notices.remind() == 1
        assert told("overdue") == {"asker", "anna", "bert", "carl"}
        assert notices.remind() == 0


class TestTheCommand:
    def test_add_list_and_retire(self, capsys: Any) -> None:
        call_command("webhook", "add", name="Pager", url="https://pager.example/", tenant="acme")
        hook = Webhook.objects.get()
        key = capsys.readouterr().out.split("key ")[1].split()[0]
        assert key_of(hook) == bytes.fromhex(key)
        call_command("webhook", "list")
        assert "acme  https://pager.example/  in use" in capsys.readouterr().out
        call_command("webhook", "retire", id=hook.pk)
        assert Webhook.objects.get().retired_at is not None

    @pytest.mark.parametrize(
        "given",
        [
            {"deed": "add", "name": "x"},
            {"deed": "add", "name": "x", "url": "https://x.example/", "tenant": "nobody"},
            {"deed": "add", "name": "x", "url": "http://x.example/"},
            {"deed": "retire", "id": 4711},
        ],
    )
    def test_what_it_refuses(self, given: dict[str, Any]) -> None:
        with pytest.raises(CommandError):
            call_command("webhook", given.pop("deed"), **given)
        assert Webhook.objects.count() == 0


def test_revoking_tells_who_had_a_part(world: World) -> None:
    ticket = ticket_revoke(actor=world.carl.actor, ticket=world.active(), words="Stop, please.")
    assert told("over") == {"asker", "anna", "owner"}
    assert Ticket.objects.get(pk=ticket.pk).words == "Stop, please."
