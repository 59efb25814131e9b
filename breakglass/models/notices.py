"""Who is told of a ticket, and how: rows are written with the change, and a worker sends them."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from breakglass.models.tickets import Ticket
from tenants.models import Tenant


class Webhook(models.Model):
    """An address that is told of tickets, each message signed with the address's own key."""

    class Audience(models.TextChoices):
        APPROVERS = "approvers"
        TENANT = "tenant"

    name = models.CharField(max_length=80)
    url = models.CharField("URL", max_length=500)
    key = models.BinaryField(help_text="For the HMAC; wrapped.")
    audience = models.CharField(max_length=10, choices=Audience.choices)
    tenant = models.ForeignKey(
        Tenant, null=True, blank=True, on_delete=models.PROTECT, related_name="webhooks"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name", "pk"]
        default_permissions = ("view", "add", "change")
        constraints = [
            models.CheckConstraint(
                condition=Q(audience="approvers", tenant=None) | Q(audience="tenant", tenant__isnull=False),
                name="only_a_tenants_webhook_has_a_tenant",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Notice(models.Model):
    """One message about a ticket to one person or webhook."""

    MAX_ATTEMPTS = 8
    """After so many nobody tries again; what cannot be sent at all has them at once."""

    class Kind(models.TextChoices):
        REQUESTED = "requested"
        REMINDER = "reminder"
        EMERGENCY = "emergency"
        APPROVED = "approved"
        STARTED = "started"
        OVER = "over"
        REVIEW = "review"
        OVERDUE = "overdue"
        CLONED = "cloned"

    class Channel(models.TextChoices):
        MAIL = "mail"
        WEBHOOK = "webhook"

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="notices")
    revision = models.PositiveIntegerField(default=1)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    channel = models.CharField(max_length=8, choices=Channel.choices)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    endpoint = models.ForeignKey(Webhook, null=True, on_delete=models.PROTECT, related_name="notices")
    due_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    failed = models.CharField(max_length=40, blank=True, help_text="A code: why it was not sent.")

    class Meta:
        ordering = ["-due_at", "-pk"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=Q(channel="mail", user__isnull=False, endpoint=None)
                | Q(channel="webhook", user=None, endpoint__isnull=False),
                name="a_notice_has_one_receiver",
            ),
        ]
        indexes = [models.Index(fields=["due_at"], condition=Q(sent_at=None), name="unsent_notices")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.ticket_id} by {self.channel}"
