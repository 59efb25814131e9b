"""What the portal meant to happen in guests, what guests say happened, and where the two part."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit.models.append_only import AppendOnlyModel
from breakglass.models.tickets import Ticket
from provisioning.models import Runtime


class Intent(AppendOnlyModel):
    """A token that web signed for one request to a guest, before the request went there."""

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="intents")
    token = models.CharField(max_length=64, unique=True, help_text="The token's jti.")
    route = models.CharField(max_length=64, help_text="The route's name, never the path that was asked.")
    method = models.CharField(max_length=8)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        default_permissions = ("view",)
        indexes = [models.Index(fields=["ticket", "at"], name="intents_by_ticket")]

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


class Receipt(AppendOnlyModel):
    """One link of a guest's chain of receipts, as the guest wrote it."""

    runtime = models.ForeignKey(Runtime, on_delete=models.PROTECT, related_name="access_receipts")
    seq = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=64)
    previous = models.CharField(max_length=64)
    text = models.TextField(help_text="Canonical, byte for byte.")
    ticket_id = models.UUIDField(db_index=True, help_text="As the guest has it.")
    token = models.CharField(max_length=64, blank=True, db_index=True, help_text="The token's jti.")
    event = models.CharField(max_length=16)
    at = models.DateTimeField(help_text="By the guest's clock.")
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["runtime", "seq"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["runtime", "seq"], name="one_receipt_per_runtime_and_number"),
        ]

    def __str__(self) -> str:
        return f"receipt {self.seq} of {self.runtime_id}"


class ReceiptHead(models.Model):
    """How far a guest's chain was fetched, and the guest's signed word for it."""

    runtime = models.OneToOneField(
        Runtime, on_delete=models.PROTECT, primary_key=True, related_name="receipt_head"
    )
    seq = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, blank=True)
    note = models.TextField(blank=True, help_text="A C2SP signed note.")
    at = models.DateTimeField(null=True)
    trouble = models.CharField(max_length=24, blank=True, help_text="A code; empty: the chain fits.")

    class Meta:
        verbose_name = "head of receipts"
        verbose_name_plural = "heads of receipts"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.seq} receipts of {self.runtime_id}"


class Mismatch(models.Model):
    """The portal's intents and a guest's receipts part. Loud until somebody has looked into it."""

    class Kind(models.TextChoices):
        NO_INTENT = "no_intent", "the guest was used without an entry here"
        NO_RECEIPT = "no_receipt", "the guest keeps no receipt of what was let through"
        CHAIN = "chain", "the guest's receipts do not follow each other"
        FORKED = "forked", "the guest shows other receipts than before"

    runtime = models.ForeignKey(Runtime, on_delete=models.PROTECT, related_name="mismatches")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    ticket = models.UUIDField(null=True, help_text="As the guest, or the intent, has it.")
    token = models.CharField(max_length=64, blank=True)
    seq = models.PositiveBigIntegerField(default=0, help_text="The receipt's number; 0: none.")
    found_at = models.DateTimeField(auto_now_add=True)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    why = models.CharField(max_length=64, blank=True, help_text="The commitment to the reason, in hex.")

    class Meta:
        verbose_name_plural = "mismatches"
        ordering = ["-found_at", "-pk"]
        default_permissions = ("view", "change")
        constraints = [
            models.UniqueConstraint(
                fields=["runtime", "kind", "token", "seq"], name="one_mismatch_of_a_kind_each"
            ),
            models.CheckConstraint(
                condition=Q(acknowledged_at=None, acknowledged_by=None, why="")
                | (Q(acknowledged_at__isnull=False, acknowledged_by__isnull=False) & ~Q(why="")),
                name="an_acknowledged_mismatch_says_by_whom",
            ),
        ]
        indexes = [
            models.Index(fields=["found_at"], condition=Q(acknowledged_at=None), name="open_mismatches")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.runtime_id}"
