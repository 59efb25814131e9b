"""Who has vouched for the log's checkpoints, and who has refused to.

A cosignature is telemetry: it says how things are, and needs no entry, since it proves itself. Registrations,
retirements, refusals and their acknowledgements are entries (docs/adr/0035-witnesses.md).
"""

from django.db import models

from audit.models.append_only import Acknowledgement, AppendOnlyModel
from audit.models.tree import Checkpoint


class Witness(models.Model):
    """Somebody who keeps the newest checkpoint and signs only what extends it: a guest, or one outside."""

    name = models.CharField(max_length=255, help_text="As it signs.")
    vkey = models.CharField(
        "verifier key", max_length=400, unique=True, help_text="Name+key id+base64, as the witness tells it."
    )
    url = models.CharField(
        "URL",
        max_length=200,
        blank=True,
        help_text="Where an outside witness is asked: add-checkpoint is put behind it.",
    )
    target = models.CharField(max_length=64, blank=True, help_text="Id of the runtime whose guest it is.")
    tenant_id = models.UUIDField(null=True, blank=True)
    added_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    asked_at = models.DateTimeField(null=True, blank=True, help_text="When a worker last took it to ask.")
    problem = models.CharField(max_length=200, blank=True, help_text="Why the last question had no answer.")

    class Meta:
        verbose_name_plural = "witnesses"
        ordering = ["name", "pk"]
        default_permissions = ("view", "add", "change")
        constraints = [
            models.UniqueConstraint(
                name="one_active_witness_of_a_name",
                fields=["name"],
                condition=models.Q(retired_at=None),
            ),
            models.CheckConstraint(
                name="witness_is_a_guest_or_outside",
                condition=models.Q(url="") ^ models.Q(target=""),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Cosignature(AppendOnlyModel):
    """A witness's signature under a checkpoint, checked before it was stored."""

    witness = models.ForeignKey(Witness, models.PROTECT, related_name="cosignatures")
    checkpoint = models.ForeignKey(Checkpoint, models.PROTECT, related_name="cosignatures")
    line = models.TextField(help_text="The C2SP signature line, with its end.")
    signed_at = models.DateTimeField(help_text="As the witness dates it.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-checkpoint__size", "witness__name"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(name="one_cosignature_each", fields=["checkpoint", "witness"]),
        ]

    def __str__(self) -> str:
        return f"{self.witness} under {self.checkpoint}"


class WitnessRefusal(AppendOnlyModel):
    """A witness did not sign: what it holds and what the log shows do not go together."""

    class Reason(models.TextChoices):
        """The witness's own words (:data:`protocol.witnessing.Reason`), and what the portal sees itself."""

        SMALLER = "smaller", "it holds more entries than the log has: the log was set back"
        FORKED = "forked", "it holds other entries in the same number: the log has forked"
        PROOF = "proof", "what it holds is not the beginning of the log: the log has forked"
        STALE = "stale", "it says each time that it holds something else"
        SIGNATURE = "signature", "the log's signature does not fit the key that it knows"
        ORIGIN = "origin", "it knows another log, or none"
        MALFORMED = "malformed", "it does not understand what it is sent"
        OTHER_KEY = "other_key", "it signs with another key than the registered one"
        FORGOTTEN = "forgotten", "it holds fewer entries than it has signed for: the witness was set back"
        BAD_COSIGNATURE = "bad_cosignature", "its signature does not fit"

    witness = models.ForeignKey(Witness, models.PROTECT, related_name="refusals")
    checkpoint = models.ForeignKey(Checkpoint, models.PROTECT, null=True, related_name="refusals")
    reason = models.CharField(max_length=20, choices=Reason.choices)
    size = models.BigIntegerField(help_text="What the witness says that it holds.")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        default_permissions = ("view", "change")
        indexes = [models.Index(fields=["witness", "reason"], name="refusal_by_reason")]

    def __str__(self) -> str:
        return f"{self.witness}: {self.reason}"


class RefusalAcknowledgement(Acknowledgement):
    """A person has looked into a refusal. The alarm ends; the refusal stays."""

    refusal = models.OneToOneField(WitnessRefusal, models.PROTECT, related_name="acknowledgement")

    def __str__(self) -> str:
        return f"{self.refusal} was looked into"
