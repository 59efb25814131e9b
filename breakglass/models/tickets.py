"""Tickets, what was asked in each revision of one, and who has signed it."""

import uuid
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from audit.models.append_only import AppendOnlyModel
from breakglass.models.people import ApproverSetVersion, Passkey
from provisioning.models import Runtime
from tenants.models import Tenant


class Ticket(models.Model):
    """A request for access. ``state`` changes only through :mod:`breakglass.transitions`.

    What people signed stands in its revisions. The database refuses every step that is not in the table of
    transitions, and keeps a ticket that is over as it is (breakglass/triggers.py).
    """

    class Kind(models.TextChoices):
        ORDINARY = "ordinary"
        EMERGENCY = "emergency"

    class State(models.TextChoices):
        PENDING = "pending", "waiting for approval"
        APPROVED = "approved", "approved, not begun"
        ACTIVE = "active", "active"
        ENDED = "ended", "ended"
        EXPIRED = "expired", "ended by the clock"
        REVOKED = "revoked", "revoked"
        REJECTED = "rejected", "rejected"
        WITHDRAWN = "withdrawn", "withdrawn"
        TIMED_OUT = "timed_out", "waited too long"

    WAITING = (State.PENDING, State.APPROVED)
    OPEN = (*WAITING, State.ACTIVE)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="tickets")
    runtime = models.ForeignKey(Runtime, on_delete=models.PROTECT, related_name="tickets")
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="break_glass_tickets"
    )
    passkey = models.ForeignKey(
        Passkey, on_delete=models.PROTECT, related_name="tickets", help_text="The requester's, in use."
    )
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    revision = models.PositiveIntegerField(default=1)
    approvers_set = models.ForeignKey(
        ApproverSetVersion, on_delete=models.PROTECT, related_name="tickets", help_text="That may approve it."
    )
    needed = models.PositiveSmallIntegerField(help_text="How many people must approve.")
    needs_owner = models.BooleanField(default=False, help_text="The tenant's terms ask for an owner as well.")
    seconds = models.PositiveIntegerField(help_text="How long access is asked for.")
    asked_at = models.DateTimeField()
    wait_until = models.DateTimeField(help_text="Until then it may be approved and begun.")
    approved_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    access_until = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    ending = models.CharField(max_length=24, blank=True, help_text="A code: why it is over.")
    words = models.TextField(blank=True, max_length=500, help_text="Why, in the words of whoever revoked it.")
    delivered_at = models.DateTimeField(null=True, help_text="When the guest took the grant.")
    guest_until = models.DateTimeField(null=True, help_text="When the guest says that it ends.")
    end_confirmed_at = models.DateTimeField(null=True, help_text="When the guest said that it is over.")
    delivery_refused = models.CharField(
        max_length=40, blank=True, help_text="The code of the guest's refusal; empty: none."
    )

    class Meta:
        ordering = ["-asked_at", "-pk"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(condition=Q(revision__gte=1), name="ticket_revisions_begin_at_one"),
            models.CheckConstraint(condition=Q(needed__gte=1), name="a_ticket_needs_an_approval"),
            models.CheckConstraint(
                condition=Q(seconds__gte=60)
                & (Q(kind="ordinary", seconds__lte=14400) | Q(kind="emergency", seconds__lte=900)),
                name="a_ticket_is_short",
            ),
            models.CheckConstraint(condition=Q(wait_until__gt=F("asked_at")), name="a_ticket_waits"),
            models.CheckConstraint(
                condition=Q(state="pending", approved_at=None, started_at=None, access_until=None)
                | Q(state="approved", approved_at__isnull=False, started_at=None, access_until=None)
                | Q(
                    state__in=["active", "ended", "expired"],
                    approved_at__isnull=False,
                    started_at__isnull=False,
                    access_until__isnull=False,
                )
                | Q(state__in=["rejected", "withdrawn", "timed_out"], started_at=None, access_until=None)
                | Q(state="revoked", started_at=None, access_until=None)
                | Q(state="revoked", started_at__isnull=False, access_until__isnull=False),
                name="a_ticket_has_its_times",
            ),
            models.CheckConstraint(
                condition=(
                    Q(state__in=["pending", "approved", "active"], ended_at=None, ended_by=None, ending="")
                    | (
                        ~Q(state__in=["pending", "approved", "active"])
                        & Q(ended_at__isnull=False)
                        & ~Q(ending="")
                    )
                ),
                name="a_ticket_that_is_over_says_why",
            ),
            models.UniqueConstraint(
                fields=["requester"],
                condition=Q(kind="emergency", state__in=["pending", "approved", "active"]),
                name="one_open_emergency_per_requester",
            ),
            models.CheckConstraint(
                condition=Q(started_at=None) | Q(started_at__lt=F("wait_until")),
                name="a_ticket_begins_in_time",
            ),
            models.CheckConstraint(
                condition=Q(started_at=None) | Q(access_until__gt=F("started_at")),
                name="access_ends_after_it_begins",
            ),
        ]
        indexes = [
            models.Index(
                fields=["wait_until"],
                condition=Q(state__in=["pending", "approved", "active"]),
                name="open_tickets",
            ),
            models.Index(fields=["requester", "state"], name="tickets_of_requester"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} ticket {self.pk}"

    @property
    def document(self) -> dict[str, Any]:
        """What was asked, in the revision that holds; from memory where a selector has fetched it."""
        for row in self.revisions.all():
            if row.revision == self.revision:
                return dict(row.document)
        raise LookupError(f"ticket {self.pk} lacks revision {self.revision}")

    @property
    def surely_over_at(self) -> datetime | None:
        """When the guest ends access by itself: it counts from when it was told, so it may be later."""
        told = [at for at in (self.access_until, self.guest_until) if at is not None]
        return max(told, default=None)

    @property
    def open(self) -> bool:
        """Whether it may still become access, or is."""
        return self.state in self.OPEN


class Revision(AppendOnlyModel):
    """What the requester asked and signed; an edit is the next one."""

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="revisions")
    revision = models.PositiveIntegerField()
    document = models.JSONField(help_text="In canonical form.")
    digest = models.CharField(max_length=64, help_text="As protocol.tickets.Ticket has it.")
    signature = models.JSONField(help_text="The requester's, as it came, with its fingerprint.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["ticket", "-revision"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["ticket", "revision"], name="one_document_per_revision"),
            models.UniqueConstraint(fields=["digest"], name="one_revision_per_digest"),
        ]

    def __str__(self) -> str:
        return f"{self.ticket_id} revision {self.revision}"


class Verdict(AppendOnlyModel):
    """What one approver has signed about one revision."""

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="%(class)ss")
    revision = models.PositiveIntegerField()
    passkey = models.ForeignKey(Passkey, on_delete=models.PROTECT, related_name="%(class)ss")
    person = models.CharField(max_length=80)
    signature = models.JSONField(help_text="As it came, with the signer's fingerprint.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True
        ordering = ["pk"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.person} of {self.ticket_id} revision {self.revision}"


class Approval(Verdict):
    """A yes. The database takes none by the requester, nor by a key outside the ticket's set."""

    class Meta(Verdict.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["ticket", "revision", "person"], name="one_approval_per_person_and_revision"
            ),
            models.UniqueConstraint(
                fields=["ticket", "revision", "passkey"], name="one_approval_per_key_and_revision"
            ),
        ]


class Rejection(Verdict):
    """A no, which ends the ticket."""

    words = models.TextField(blank=True, max_length=500, help_text="Why, for the requester and the tenant.")

    class Meta(Verdict.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["ticket", "revision", "person"], name="one_rejection_per_person_and_revision"
            ),
        ]


class OwnerApproval(AppendOnlyModel):
    """One of the tenant's owners agrees, where its terms ask for that. Any kind of key.

    A member's key may be forgotten later, and this row never changes: so it names the key and person only.
    """

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="owner_approvals")
    revision = models.PositiveIntegerField()
    fingerprint = models.CharField(max_length=64, help_text="Of the member's key.")
    person = models.CharField(max_length=80)
    signature = models.JSONField(help_text="As it came, with the signer's fingerprint.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["ticket", "revision"], name="one_owner_approval_per_revision"),
        ]

    def __str__(self) -> str:
        return f"{self.person} of {self.ticket_id} revision {self.revision}"


class Review(models.Model):
    """What the requester writes once access is over. An emergency's blocks further tickets until then."""

    ticket = models.OneToOneField(Ticket, on_delete=models.PROTECT, related_name="review")
    due_at = models.DateTimeField()
    text = models.TextField(blank=True, max_length=4000)
    closed_at = models.DateTimeField(null=True)
    closed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        ordering = ["due_at"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=Q(closed_at=None, closed_by=None, text="")
                | (Q(closed_at__isnull=False, closed_by__isnull=False) & ~Q(text="")),
                name="a_closed_review_is_written",
            ),
        ]

    def __str__(self) -> str:
        return f"review of {self.ticket_id}"
