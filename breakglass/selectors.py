"""Every read of tickets and of those who approve them, scoped by the person who reads."""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from guardian.shortcuts import get_objects_for_user

from breakglass.clock import Clock
from breakglass.models import (
    Approval,
    ApproverSetVersion,
    Passkey,
    Review,
    TenantApprovers,
    TermsVersion,
    Ticket,
)
from protocol import tickets as form
from protocol.approvers import ApproversError, ApproverSet
from tenants.models import Tenant
from tenants.selectors import Person, tenants_of_member

RECENT = 10
"""How many of a tenant's tickets an approver is shown beside the one in question."""


@dataclass(frozen=True)
class Eligible:
    """Somebody who may approve a ticket now."""

    person: str
    """As signed documents name them."""
    name: str
    """As the set names them."""
    approved: bool
    """This revision, already."""


@dataclass(frozen=True)
class Inbox:
    """What concerns one person now."""

    waiting_for_me: QuerySet[Ticket]
    """They may approve or reject these, and have not."""
    mine: QuerySet[Ticket]
    """They asked, and it is not over."""
    active: QuerySet[Ticket]
    """Access that runs, of all tickets that they may know of."""
    reviews: QuerySet[Review]
    """They owe these."""


def current_set() -> ApproverSetVersion | None:
    """The approver set in force; None: nobody may approve anything."""
    return ApproverSetVersion.objects.first()


def approvers_of(row: ApproverSetVersion | None) -> ApproverSet | None:
    """A stored set, read; None where there is none or it cannot be read: nobody is in it."""
    try:
        return ApproverSet.parse(row.document) if row is not None else None
    except ApproversError:
        return None


def named_set(tenant: Tenant) -> TenantApprovers | None:
    """The newest naming by an owner of ``tenant``; None: its guest lets nobody in."""
    return TenantApprovers.objects.filter(tenant=tenant).select_related("set").first()


def current_terms(tenant: Tenant) -> TermsVersion | None:
    """What the owner's terms are; None: approvers decide."""
    return TermsVersion.objects.filter(tenant=tenant).first()


def keys_of_person(user: Person) -> QuerySet[Passkey]:
    """The passkeys that ``user`` may sign with."""
    if not isinstance(user, User) or not (user.is_active and user.is_staff):
        return Passkey.objects.none()
    return Passkey.objects.filter(user=user, retired_at=None, cloned_at=None)


def keys_in(row: ApproverSetVersion | None) -> QuerySet[Passkey]:
    """The passkeys of a set that count: in use, of staff whose accounts are."""
    approvers = approvers_of(row)
    if approvers is None:
        return Passkey.objects.none()
    return Passkey.objects.filter(
        public_key__in=[one.key.public_key.hex() for one in approvers.approvers.values()],
        retired_at=None,
        cloned_at=None,
        user__is_active=True,
        user__is_staff=True,
    )


def is_approver(user: Person) -> bool:
    """Whether ``user`` holds a key of the set in force."""
    return isinstance(user, User) and user.is_active and keys_in(current_set()).filter(user=user).exists()


def tickets_for(user: Person) -> QuerySet[Ticket]:
    """The tickets that ``user`` may know of.

    Staff know those of the tenants that they may operate, and their own; approvers know all; members know
    their tenant's.
    """
    if not isinstance(user, User) or not user.is_active:
        return Ticket.objects.none()
    scope = Q(tenant__in=tenants_of_member(user).values("pk"))
    if user.is_staff:
        scope |= Q(tenant__in=get_objects_for_user(user, "tenants.operate_tenant", Tenant).values("pk"))
        scope |= Q(requester=user)
        if is_approver(user):
            scope = Q()
    return _with_all(Ticket.objects.filter(scope))


def recent_of(tenant: Tenant, besides: Ticket) -> QuerySet[Ticket]:
    """The tenant's other recent tickets, for whoever may see ``besides``."""
    return _with_all(Ticket.objects.filter(tenant=tenant).exclude(pk=besides.pk))[:RECENT]


def inbox_for(user: Person) -> Inbox:
    """What concerns ``user`` now. Each part is a query that has not run yet: count it, or show it."""
    known = tickets_for(user)
    who = user.pk if isinstance(user, User) else None
    return Inbox(
        waiting_for_me=_waiting_for(user, known),
        mine=known.filter(requester=who, state__in=Ticket.OPEN),
        active=known.filter(state=Ticket.State.ACTIVE),
        reviews=Review.objects.filter(
            ticket__requester=who, closed_at=None, ticket__ended_at__isnull=False
        ).select_related("ticket__tenant"),
    )


def may_approve(ticket: Ticket) -> list[Eligible]:
    """Who may approve ``ticket`` now, by name: nobody whose key or account is out of use."""
    row = current_set()
    approvers = approvers_of(row)
    if approvers is None or row is None or row.pk != ticket.approvers_set_id:
        return []
    allowed = form.may_approve(form.Ticket.parse(ticket.document), approvers)
    usable = {key.person for key in keys_in(row)} - {f"user:{ticket.requester_id}"}
    done = set(approvals_of(ticket).values_list("person", flat=True))
    names = {one["person"]: one["name"] for one in approvers.document["approvers"]}
    people = [
        Eligible(person, name, person in done)
        for person, name in names.items()
        if person in allowed and person in usable
    ]
    return sorted(people, key=lambda one: (one.name, one.person))


def approvals_of(ticket: Ticket) -> QuerySet[Approval]:
    """Of the revision that holds; earlier ones count no more."""
    return Approval.objects.filter(ticket=ticket, revision=ticket.revision).select_related("passkey__user")


def emergency_debt(user: Person) -> Ticket | None:
    """The emergency of ``user`` that runs, or whose review is not written.

    Until it is they ask for nothing more, change nothing that waits, and begin nothing.
    """
    unwritten = Q(review__isnull=False, review__closed_at=None)
    return (
        Ticket.objects.filter(Q(state=Ticket.State.ACTIVE) | unwritten, kind=Ticket.Kind.EMERGENCY)
        .filter(requester=user.pk)
        .select_related("tenant", "review")
        .first()
    )


def overdue_reviews() -> QuerySet[Review]:
    """Reviews that should have been written by now."""
    return Review.objects.filter(closed_at=None, due_at__lte=Clock()).select_related(
        "ticket__tenant", "ticket__requester"
    )


def cloned_keys() -> QuerySet[Passkey]:
    """Passkeys of which a copy is about, until they are retired: for the staff's pages, in red."""
    return Passkey.objects.filter(cloned_at__isnull=False, retired_at=None).select_related("user")


def _waiting_for(user: Person, known: QuerySet[Ticket]) -> QuerySet[Ticket]:
    row = current_set()
    if not isinstance(user, User) or not keys_in(row).filter(user=user).exists():
        return known.none()
    own = Approval.objects.filter(ticket=OuterRef("pk"), revision=OuterRef("revision"), passkey__user=user)
    return (
        known.filter(~Exists(own), state=Ticket.State.PENDING, wait_until__gt=Clock(), approvers_set=row)
        .exclude(requester=user)
        .order_by(F("kind").asc(), "wait_until")
    )


def _with_all(tickets: QuerySet[Ticket]) -> QuerySet[Ticket]:
    related = ("tenant", "runtime", "requester", "passkey", "approvers_set", "review")
    return tickets.select_related(*related).prefetch_related("revisions")
