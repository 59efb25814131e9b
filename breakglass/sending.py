"""Sends what is due of the notices: a worker's part. At least once; never what was sent already."""

import logging
import smtplib
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Case, F, When
from django.db.models.functions import Now

from breakglass.clock import database_time
from breakglass.models import Notice, Ticket
from breakglass.services.webhooks import key_of
from breakglass.webhooks import post
from protocol.canonical import canonical
from provisioning.outside_witness import OutsideUnreachable
from provisioning.wrapping import WrappingError
from tenants.selectors import is_member

log = logging.getLogger(__name__)
MAX_ATTEMPTS = Notice.MAX_ATTEMPTS
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(hours=1)
AT_ONCE = 50
"""Notices of one round."""
SUBJECTS = {
    Notice.Kind.REQUESTED: "A request for access waits for you",
    Notice.Kind.REMINDER: "A request for access still waits for you",
    Notice.Kind.EMERGENCY: "EMERGENCY access to a machine was asked for",
    Notice.Kind.APPROVED: "Access to a machine was approved",
    Notice.Kind.STARTED: "Access to a machine has begun",
    Notice.Kind.OVER: "A request for access is over",
    Notice.Kind.REVIEW: "A review of your access is due",
    Notice.Kind.OVERDUE: "A review of an access is overdue",
    Notice.Kind.CLONED: "A passkey counted backwards",
}


class NotSent(Exception):
    """``code`` says why; with ``final`` nobody tries again."""

    def __init__(self, code: str, *, final: bool = False) -> None:
        super().__init__(code)
        self.code, self.final = code, final


def send_due(ticket_id: UUID | None = None) -> int:
    """Send a round of what is due, of all tickets or of one; emergencies first. How many were sent.

    Once the mail server has not answered no other mail of the round is tried: each would wait as long.
    """
    due = Notice.objects.filter(sent_at=None, attempts__lt=MAX_ATTEMPTS, due_at__lte=Now())
    if ticket_id is not None:
        due = due.filter(ticket=ticket_id)
    ordinary = Case(When(ticket__kind=Ticket.Kind.EMERGENCY, then=0), default=1)
    found = due.select_related("ticket__tenant", "user", "endpoint").order_by(ordinary, "due_at", "pk")
    sent, silent = 0, False
    for notice in found[:AT_ONCE]:
        if silent and notice.channel == Notice.Channel.MAIL:
            continue
        if _claim(notice):
            failed = _send(notice)
            sent += not failed
            silent = silent or failed == "mail_unreachable"
    return sent


def link_of(notice: Notice) -> str:
    """Where its receiver looks at the ticket: members on their tenant's page, staff on their own."""
    ticket = notice.ticket
    member = notice.user is not None and not notice.user.is_staff and is_member(notice.user, ticket.tenant)
    own = notice.endpoint is not None and notice.endpoint.tenant_id is not None
    place = f"/t/{ticket.tenant.slug}" if member or own else ""
    return f"{settings.BASE_URL}{place}/break-glass/{ticket.pk}/"


def _claim(notice: Notice) -> bool:
    """Take it for this process, and say when somebody else may try if this one dies."""
    pause = min(FIRST_PAUSE * 2**notice.attempts, LONGEST_PAUSE)
    mine = Notice.objects.filter(pk=notice.pk, sent_at=None, attempts=notice.attempts)
    return mine.update(attempts=F("attempts") + 1, due_at=Now() + pause) == 1


def _send(notice: Notice) -> str:
    """The code of why it was not sent; empty: it was."""
    row = Notice.objects.filter(pk=notice.pk)
    try:
        {Notice.Channel.MAIL: _mail, Notice.Channel.WEBHOOK: _webhook}[Notice.Channel(notice.channel)](notice)
    except NotSent as error:
        row.update(failed=error.code, **({"attempts": MAX_ATTEMPTS} if error.final else {}))
        log.warning("notice %s of ticket %s was not sent: %s", notice.pk, notice.ticket_id, error.code)
        return error.code
    row.update(sent_at=Now(), failed="")
    return ""


def _mail(notice: Notice) -> None:
    """No words of the ticket: mail passes through others' hands."""
    if notice.user is None or not notice.user.is_active or not notice.user.email:
        raise NotSent("no_address", final=True)
    if settings.PRODUCTION and not settings.MAIL_HOST:
        raise NotSent("no_mail_server", final=True)  # a file that nobody reads is no message
    text = f"{SUBJECTS[Notice.Kind(notice.kind)]}.\n\nLook at it here: {link_of(notice)}\n"
    message = EmailMessage(SUBJECTS[Notice.Kind(notice.kind)], text, settings.DEFAULT_FROM_EMAIL)
    message.to = [notice.user.email]
    message.extra_headers = {"Auto-Submitted": "auto-generated"}
    try:
        message.send()
    except smtplib.SMTPException as error:
        raise NotSent(type(error).__name__[:40]) from None
    except (OSError, ValueError):
        raise NotSent("mail_unreachable") from None


def _webhook(notice: Notice) -> None:
    hook = notice.endpoint
    if hook is None or hook.retired_at is not None:
        raise NotSent("retired", final=True)
    now = int(database_time().timestamp())
    body = canonical(
        {
            "format": "break-glass notice v1",
            "notice": notice.pk,
            "kind": str(notice.kind),
            "ticket": str(notice.ticket_id),
            "revision": notice.revision,
            "state": str(Ticket.objects.values_list("state", flat=True).get(pk=notice.ticket_id)),
            "link": link_of(notice),
        }
    )
    try:
        post(hook.url, key_of(hook), body, now)
    except OutsideUnreachable:
        raise NotSent("unreachable") from None
    except WrappingError:
        raise NotSent("no_key", final=True) from None
