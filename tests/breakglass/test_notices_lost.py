"""A notice that reached nobody is seen by the staff; an emergency's waits behind nothing."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit.alerts import everywhere
from breakglass import notice_tasks, sending
from breakglass.models import Notice
from tests.breakglass.world import World

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _addresses(world: World) -> None:
    for user in User.objects.all():
        User.objects.filter(pk=user.pk).update(email=f"{user.username}@example.org")


def shown() -> list[tuple[str, str, str]]:
    return [(each.code, each.severity, each.about) for each in everywhere() if each.code.startswith("notice")]


def lose(**which: Any) -> None:
    Notice.objects.filter(**which).update(attempts=Notice.MAX_ATTEMPTS, failed="mail_unreachable")


def test_a_lost_notice_of_an_emergency_is_an_alert(world: World) -> None:
    """One for a ticket, however many were not told; not one that is still tried, nor for good."""
    ticket = world.open(kind="emergency", scopes=["status"], paths=[])
    Notice.objects.update(attempts=3, failed="mail_unreachable")
    assert shown() == []
    lose()
    assert shown() == [("notice_failed", "alert", f"ticket {ticket.pk}: 4 notices")]
    Notice.objects.update(due_at=timezone.now() - timedelta(days=8))
    assert shown() == []


def test_of_an_ordinary_ticket_only_that_it_began(world: World) -> None:
    ticket = world.active()
    lose(kind="requested")
    lose(kind="approved")
    assert shown() == []
    lose(kind="started")
    assert shown() == [("notice_failed", "alert", f"ticket {ticket.pk}: 1 notices")]


def test_production_without_a_mail_server_says_so(world: World, settings: Any) -> None:
    """A file in the state directory is no message there; in development it is."""
    settings.PRODUCTION, settings.MAIL_HOST = True, ""
    world.open()
    assert sending.send_due() == 0
    assert set(Notice.objects.values_list("failed", "attempts")) == {("no_mail_server", 8)}
    assert shown() == [("notices_no_mail_server", "alert", "")]
    settings.PRODUCTION = False
    world.open()
    assert sending.send_due() == 4


def test_a_dead_mail_server_is_asked_once_a_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try waits for it: fifty would keep a worker for minutes. The others lose no attempt."""
    tried: list[Any] = []

    def dead(message: EmailMessage, **given: Any) -> int:
        tried.append(message.to)
        raise OSError("no route")

    monkeypatch.setattr(EmailMessage, "send", dead)
    world.open()
    assert sending.send_due() == 0
    assert len(tried) == 1
    assert sorted(Notice.objects.values_list("attempts", flat=True)) == [0, 0, 0, 1]


def test_emergencies_go_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.open()
    world.open(kind="emergency", scopes=["status"], paths=[])
    monkeypatch.setattr(sending, "AT_ONCE", 4)
    assert sending.send_due() == 4
    assert set(Notice.objects.exclude(sent_at=None).values_list("kind", flat=True)) == {"emergency"}


def test_an_emergency_is_told_by_the_urgent_queue(
    world: World, monkeypatch: pytest.MonkeyPatch, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    """On commit, to a worker that no build keeps busy; an ordinary ticket waits for the round."""
    told: list[Any] = []
    monkeypatch.setattr("celery.current_app.send_task", lambda name, args: told.append((name, args[0])))
    with django_capture_on_commit_callbacks(execute=True):
        world.open()
        ticket = world.open(kind="emergency", scopes=["status"], paths=[])
    task = "breakglass.notice_tasks.emergency_send"
    assert told == [(task, str(ticket.pk))]
    assert task in settings.URGENT_TASKS
    notice_tasks.emergency_send(str(ticket.pk))
    assert set(Notice.objects.exclude(sent_at=None).values_list("ticket", flat=True)) == {ticket.pk}


def test_notices_stand_in_the_admin(world: World, client: Client, make_user: Any) -> None:
    """For those who may know of the ticket."""
    world.open()
    lose(user=world.anna.user)
    page = reverse("admin:breakglass_notice_changelist")
    client.force_login(make_user("root", is_superuser=True, is_staff=True))
    assert b"mail_unreachable" in client.get(page).content
    assert client.post(reverse("admin:breakglass_notice_add")).status_code == 403
