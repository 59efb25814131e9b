"""What a tenant may reach outside."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q

from tenants.connectors import CONNECTORS, PILOT, Connector
from tenants.models.registry import Tenant


class TenantConnector(models.Model):
    """What a tenant may reach: staff allow a connector, then an owner enables it. No row: not allowed."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="connectors")
    connector = models.CharField(max_length=16, help_text="A slug of tenants/connectors.py.")
    allowed = models.BooleanField(default=False, help_text="By staff.")
    enabled = models.BooleanField(default=False, help_text="By an owner.")
    beyond_pilot = models.BooleanField(
        default=False, help_text="Staff allowed it while the pilot's guardrail was down."
    )
    allowed_at = models.DateTimeField(null=True, help_text="When staff last allowed or forbade it.")
    allowed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    enabled_at = models.DateTimeField(null=True, help_text="When it was last enabled or disabled.")
    enabled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        verbose_name = "connector"
        ordering = ["tenant", "connector"]
        default_permissions = ("add", "view")
        constraints = [
            models.UniqueConstraint(fields=["tenant", "connector"], name="one_row_per_tenant_and_connector"),
            models.CheckConstraint(
                condition=Q(enabled=False) | Q(allowed=True), name="only_an_allowed_connector_is_enabled"
            ),
            models.CheckConstraint(
                condition=Q(allowed=False) | Q(connector__in=sorted(PILOT)) | Q(beyond_pilot=True),
                name="the_pilot_allows_its_connectors_only",
            ),
        ]

    def __str__(self) -> str:
        return self.spec.name if self.spec else self.connector

    @property
    def spec(self) -> Connector | None:
        """What it reaches; None if the program does not know it any more."""
        return CONNECTORS.get(self.connector)

    @property
    def changed_at(self) -> datetime | None:
        """When anybody last changed it; None where nobody has."""
        return max(filter(None, (self.allowed_at, self.enabled_at)), default=None)
