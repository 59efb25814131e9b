"""Tenants' keys and their connectors' secrets."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.models.registry import Tenant


class TenantKey(models.Model):
    """A key pair under which web wraps what a tenant has sealed, and only a worker unwraps it (ADR 22)."""

    class State(models.TextChoices):
        CURRENT = "current"
        DESTROYED = "destroyed"

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="keys")
    version = models.PositiveIntegerField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.CURRENT)
    public_key = models.CharField(max_length=64, help_text="X25519 in hex.")
    private_key = models.BinaryField(null=True, help_text="X25519, wrapped; empty once destroyed.")
    rotation_wanted = models.BooleanField(
        default=False, help_text="Somebody has asked for the next one; a worker makes it."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(default=timezone.now, help_text="When its state last changed.")

    class Meta:
        ordering = ["tenant", "-version"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version"], name="one_key_per_tenant_and_version"),
            models.UniqueConstraint(
                fields=["tenant"], condition=Q(state="current"), name="one_current_key_per_tenant"
            ),
            models.CheckConstraint(
                condition=Q(state="destroyed", private_key=None)
                | (~Q(state="destroyed") & Q(private_key__isnull=False)),
                name="a_destroyed_key_has_no_private_half",
            ),
            models.CheckConstraint(condition=Q(version__gte=1), name="key_versions_begin_at_one"),
        ]

    def __str__(self) -> str:
        return f"key {self.version} of {self.tenant_id}"

    @property
    def identity(self) -> str:
        """The row's own, which its wrapping is bound to."""
        return f"tenant/{self.tenant_id}/key/{self.version}"


class ConnectorSecret(models.Model):
    """One version of a connector's credential: sealed to the guest, then wrapped with the tenant's key."""

    class Connector(models.TextChoices):
        GITHUB = "github", "GitHub"

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        HELD = "held", "on the machine"
        SUPERSEDED = "superseded", "replaced"
        REVOKING = "revoking", "being revoked"
        REVOKED = "revoked", "revoked"
        REFUSED = "refused", "refused"

    DELIVERABLE = (State.WAITING, State.HELD)
    LIVE = (*DELIVERABLE, State.REVOKING)
    """What the machine still has to be asked about."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="connector_secrets")
    connector = models.CharField(max_length=16, choices=Connector.choices)
    name = models.CharField(max_length=64)
    version = models.PositiveIntegerField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    sealing_key = models.CharField(max_length=16, help_text="Id of the machine's key that it is sealed to.")
    wrapped = models.BinaryField(null=True, help_text="Empty once nobody may deliver it any more.")
    tenant_key = models.ForeignKey(
        TenantKey,
        null=True,
        on_delete=models.PROTECT,
        related_name="secrets",
        help_text="What it is wrapped with.",
    )
    refusal = models.CharField(max_length=40, blank=True, help_text="The code of the machine's refusal.")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    changed_at = models.DateTimeField(default=timezone.now, help_text="When its state last changed.")

    class Meta:
        ordering = ["tenant", "name", "-version"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name", "version"], name="one_secret_per_tenant_name_and_version"
            ),
            models.UniqueConstraint(
                fields=["tenant", "name"], condition=Q(state="held"), name="one_held_version_per_secret"
            ),
            models.CheckConstraint(condition=Q(version__gte=1), name="secret_versions_begin_at_one"),
            models.CheckConstraint(condition=Q(connector="github"), name="the_pilot_has_one_connector"),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "held"], wrapped__isnull=False, tenant_key__isnull=False)
                | (~Q(state__in=["waiting", "held"]) & Q(wrapped=None, tenant_key=None)),
                name="only_a_deliverable_secret_is_kept",
            ),
            models.CheckConstraint(
                condition=(Q(state="refused") & ~Q(refusal="")) | (~Q(state="refused") & Q(refusal="")),
                name="only_a_refused_secret_has_a_refusal",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def identity(self) -> str:
        """The row's own, which its wrapping is bound to."""
        return f"secret/{self.tenant_id}/{self.name}/{self.version}"
