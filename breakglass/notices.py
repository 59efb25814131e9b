"""Who is told of what: rows beside the change, in its transaction; a worker sends them.

A notice holds no words of the ticket: it says that there is something to look at, and where.
"""

from collections.abc import Iterable
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now

from breakglass.clock import Clock
from breakglass.models import Notice, Ticket, Webhook
from breakglass.selectors import current_set, keys_in, overdue_reviews
from tenants.models import Membership

Kind = Notice.Kind
REMIND_AFTER = timedelta(minutes=30)


def asked(ticket: Ticket) -> None:
    """Approvers have something to decide. In an emergency all of them, and the tenant, at once."""
    kind = Kind.EMERGENCY if ticket.kind == Ticket.Kind.EMERGENCY else Kind.REQUESTED
    _tell(ticket, kind, [*_approvers(ticket), *_owners(ticket)])


def approved(ticket: Ticket) -> None:
    """The requester may begin; the tenant hears."""
    _tell(ticket, Kind.APPROVED, [ticket.requester_id, *_owners(ticket)])


def started(ticket: Ticket) -> None:
    """The tenant hears; after an emergency's few approvals, so do all approvers who were not asked."""
    skipped = _approvers(ticket) if ticket.kind == Ticket.Kind.EMERGENCY else []
    _tell(ticket, Kind.STARTED, [*skipped, *_owners(ticket)])


def over(ticket: Ticket) -> None:
    """Whoever had a part in it hears how it ended."""
    signed = ticket.approvals.filter(revision=ticket.revision).values_list("passkey__user", flat=True)
    _tell(ticket, Kind.OVER, [ticket.requester_id, *signed, *_owners(ticket)])


def _tell(ticket: Ticket, kind: Kind, people: Iterable[int]) -> None:
    told = {"ticket": ticket, "revision": ticket.revision, "kind": kind, "due_at": Now()}
    active = User.objects.filter(pk__in=set(people), is_active=True).values_list("pk", flat=True)
    mails = [Notice(channel=Notice.Channel.MAIL, user_id=user, **told) for user in sorted(active)]
    hooks = [Notice(channel=Notice.Channel.WEBHOOK, endpoint=hook, **told) for hook in _webhooks(ticket)]
    Notice.objects.bulk_create([*mails, *hooks])


def _approvers(ticket: Ticket) -> list[int]:
    keys = keys_in(current_set()).exclude(user=ticket.requester_id)
    return list(keys.values_list("user", flat=True).distinct())


def _owners(ticket: Ticket) -> list[int]:
    owners = Membership.objects.filter(tenant=ticket.tenant_id, role=Membership.Role.OWNER)
    return list(owners.values_list("user", flat=True))


def _webhooks(ticket: Ticket) -> list[Webhook]:
    audience = Q(audience=Webhook.Audience.APPROVERS) | Q(tenant=ticket.tenant_id)
    return list(Webhook.objects.filter(audience, retired_at=None))


def remind() -> int:
    """Ask once more those who have not decided, and tell of overdue reviews, each once. How many."""
    waiting = Ticket.objects.filter(state=Ticket.State.PENDING, wait_until__gt=Clock())
    asked = Notice.objects.filter(
        ticket=OuterRef("pk"), revision=OuterRef("revision"), due_at__lte=Now() - REMIND_AFTER
    ).exclude(kind=Kind.REMINDER)
    reminded = Notice.objects.filter(ticket=OuterRef("pk"), revision=OuterRef("revision"), kind=Kind.REMINDER)
    done = 0
    for ticket in waiting.filter(Exists(asked), ~Exists(reminded)):
        with transaction.atomic():
            if _once(ticket, Kind.REMINDER):
                signed = ticket.approvals.filter(revision=ticket.revision).values("passkey__user")
                people = set(_approvers(ticket)) - {row["passkey__user"] for row in signed}
                _tell(ticket, Kind.REMINDER, people)
                done += 1
    told = Notice.objects.filter(ticket=OuterRef("ticket"), kind=Kind.OVERDUE)
    for review in overdue_reviews().filter(~Exists(told)):
        with transaction.atomic():
            if _once(review.ticket, Kind.OVERDUE):
                _tell(review.ticket, Kind.OVERDUE, [review.ticket.requester_id, *_approvers(review.ticket)])
                done += 1
    return done


def _once(ticket: Ticket, kind: Kind) -> bool:
    """Whether nobody has told of it, with the ticket held until the transaction is over."""
    Ticket.objects.filter(pk=ticket.pk).update(state=F("state"))
    revision = Q(revision=ticket.revision) if kind == Kind.REMINDER else Q()
    return not Notice.objects.filter(revision, ticket=ticket, kind=kind).exists()
