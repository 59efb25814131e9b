from django.db import models

from audit.models.append_only import AppendOnlyModel


class Entry(AppendOnlyModel):
    """One thing that happened. Written by :func:`audit.services.record` and never touched again."""

    at = models.DateTimeField()
    action = models.CharField(max_length=80)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    tenant_id = models.UUIDField(null=True)
    target_type = models.CharField(max_length=40, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    event = models.TextField(help_text="The canonical JSON of the whole entry; the columns only index it.")

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        ordering = ["-pk"]
        default_permissions = ("add", "view")
        # Each index costs every writer. What staff search by stands apart (:mod:`audit.index`), filled later.
        indexes = [models.Index(fields=["tenant_id", "-id"], name="entry_by_tenant")]

    def __str__(self) -> str:
        return f"{self.pk} {self.action}"
