"""What guests tried to reach outside."""

from django.db import models

from provisioning.models.hosts import Host
from provisioning.models.runtimes import Runtime
from tenants.models import Tenant


class EgressCursor(models.Model):
    """How far a host's records are taken over. Moved in the transaction that writes them down."""

    host = models.OneToOneField(Host, on_delete=models.CASCADE, related_name="egress_cursor")
    file = models.PositiveBigIntegerField(default=0, help_text="Number of the file; 0: none yet.")
    offset = models.PositiveBigIntegerField(default=0, help_text="Bytes of it that are done.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.host_id} {self.file}:{self.offset}"


class EgressRecord(models.Model):
    """A guest's attempts to reach one place, as the proxy saw them: no path, no content.

    Attempts that are alike in all but time are one row, if they were taken over together.
    """

    class Verdict(models.TextChoices):
        ALLOWED = "allowed"
        REFUSED = "refused"

    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, related_name="egress_records", db_index=False
    )
    runtime = models.ForeignKey(
        Runtime, on_delete=models.CASCADE, related_name="egress_records", db_index=False
    )
    at = models.DateTimeField(help_text="When the last of them ended.")
    host = models.CharField(max_length=253, blank=True, help_text="As the guest named it; empty: not at all.")
    port = models.PositiveIntegerField(help_text="0: none was named.")
    verdict = models.CharField(max_length=8, choices=Verdict.choices)
    reason = models.CharField(max_length=40, blank=True, help_text="Why it was refused, or came to nothing.")
    attempts = models.PositiveIntegerField(default=1)
    bytes_up = models.PositiveBigIntegerField(default=0)
    bytes_down = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0.0, help_text="How long the longest of them lasted.")

    class Meta:
        ordering = ["-pk"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["tenant", "-id"], name="egress_by_tenant"),
            models.Index(fields=["tenant", "at"], name="egress_by_tenant_and_time"),
            models.Index(fields=["runtime"], name="egress_by_runtime"),
            models.Index(fields=["at"], name="egress_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.host}:{self.port} {self.verdict}"


# Django looks for models here; these have a folder of their own.
