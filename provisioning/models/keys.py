"""The fleet's own keys."""

from django.db import models
from django.db.models import Q
from django.utils import timezone


class FleetKey(models.Model):
    """A private key of the control plane, wrapped, with its public part: a certificate or a plain key.

    A row is believed only if its wrapped key opens and belongs to the public part (ADR 0011).
    """

    class Use(models.TextChoices):
        CA = "ca", "fleet CA"
        CLIENT = "client", "control plane's client"
        PROXY = "proxy", "proxy's client"
        TOKEN = "token", "signer of tokens"

    class State(models.TextChoices):
        ANNOUNCED = "announced"
        CURRENT = "current"
        TRUSTED = "trusted"
        RETIRED = "retired"

    BELIEVED = (State.ANNOUNCED, State.CURRENT, State.TRUSTED)

    use = models.CharField(max_length=8, choices=Use.choices)
    state = models.CharField(
        max_length=16,
        choices=State.choices,
        default=State.CURRENT,
        help_text="Announced: believed, not used yet. Trusted: believed, no longer used.",
    )
    certificate = models.TextField(blank=True, help_text="PEM; empty for a signer of tokens.")
    public_key = models.CharField(max_length=64, blank=True, help_text="Ed25519 in hex; a signer's only.")
    private_key = models.BinaryField(
        help_text="PKCS #8 or an Ed25519 seed, wrapped; emptied when retired.", default=b""
    )
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(default=timezone.now, help_text="When its state last changed.")
    expires_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-pk"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["use"], condition=Q(state="current"), name="one_current_key"),
            models.UniqueConstraint(fields=["use"], condition=Q(state="announced"), name="one_announced_key"),
        ]

    def __str__(self) -> str:
        return f"{self.use} {self.pk}"
