"""Checkpoints with the log's own signature that the log does not continue, as somebody showed them."""

from django.db import models
from django.db.models.functions import Length
from django.db.models.lookups import Exact

from audit.models.append_only import Acknowledgement, AppendOnlyModel
from protocol.merkle import HASH_BYTES


class Dispute(AppendOnlyModel):
    """Evidence that the log was set back or rewritten, or that its key is stolen.

    Only who holds the log's key can make one, and each signed history is one row however often it is shown.
    """

    tenant_id = models.UUIDField(help_text="Whose member showed it first.")
    size = models.BigIntegerField(help_text="Entries under the checkpoint that was shown.")
    root = models.BinaryField()
    note = models.TextField(help_text="The checkpoint with the log's signature.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        default_permissions = ("view", "change")
        constraints = [
            models.UniqueConstraint(name="one_dispute_of_a_history", fields=["root", "size"]),
            models.CheckConstraint(name="dispute_root_size", condition=Exact(Length("root"), HASH_BYTES)),
        ]

    def __str__(self) -> str:
        return f"Another history of {self.size} entries"


class DisputeAcknowledgement(Acknowledgement):
    """A person has looked into it. The alarm ends; the evidence stays."""

    dispute = models.OneToOneField(Dispute, models.PROTECT, related_name="acknowledgement")

    def __str__(self) -> str:
        return f"{self.dispute} was looked into"
