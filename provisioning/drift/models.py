"""What hosts were told, and what was found otherwise."""

from django.db import models
from django.db.models import Q

from provisioning.drift.findings import HOST_KINDS, KINDS, Severity


class Told(models.Model):
    """What a worker last told a host of a runtime, in our own XML. A step writes it when it has told.

    So a machine made by an earlier version of the portal can be told from one that somebody changed.
    """

    runtime = models.OneToOneField(
        "provisioning.Runtime", on_delete=models.CASCADE, primary_key=True, related_name="told"
    )
    network = models.TextField(blank=True)
    filter = models.TextField(blank=True)
    machine = models.TextField(blank=True, help_text="As it was last defined.")
    running = models.TextField(blank=True, help_text="As it was defined when it was last powered on.")

    class Meta:
        app_label = "provisioning"
        default_permissions = ()

    def __str__(self) -> str:
        return f"told of {self.runtime_id}"


class DriftFinding(models.Model):
    """Something on a host that is not as it should be; open until a check no longer finds it."""

    host = models.ForeignKey("provisioning.Host", on_delete=models.PROTECT, related_name="drift")
    runtime = models.ForeignKey(
        "provisioning.Runtime",
        null=True,
        on_delete=models.CASCADE,
        related_name="drift",
        help_text="Empty: it is about the host.",
    )
    code = models.CharField(max_length=24)
    severity = models.CharField(max_length=12, choices=[(each.value, each.value) for each in Severity])
    detail = models.CharField(max_length=300, blank=True)
    found_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="When a check last found it.")
    cleared_at = models.DateTimeField(null=True, help_text="When a check no longer found it; empty: open.")

    class Meta:
        app_label = "provisioning"
        verbose_name = "drift finding"
        ordering = ["-found_at", "-pk"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["runtime", "code", "detail"],
                condition=Q(cleared_at=None, runtime__isnull=False),
                name="one_open_finding_of_a_kind",
            ),
            models.UniqueConstraint(
                fields=["host", "code", "detail"],
                condition=Q(cleared_at=None, runtime=None),
                name="one_open_host_finding_of_a_kind",
            ),
        ]
        indexes = [models.Index(fields=["runtime"], condition=Q(cleared_at=None), name="open_drift")]

    def __str__(self) -> str:
        return self.words

    @property
    def words(self) -> str:
        """What is wrong, for a person."""
        kind = {**KINDS, **HOST_KINDS}.get(self.code)
        return kind.words if kind else self.code
