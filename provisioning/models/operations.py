"""Requested changes to a runtime, and their steps."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from provisioning.models.runtimes import Runtime


class Operation(models.Model):
    """One requested change to a runtime. Workers claim it with a lease and a fencing number."""

    class Kind(models.TextChoices):
        CREATE = "create"
        START = "start"
        STOP = "stop"
        RESTART = "restart"
        REBUILD = "rebuild"
        DELETE = "delete"
        FORCE_DELETE = "force_delete", "force-delete"
        DELIVER = "deliver", "deliver secrets"
        RESEAL = "reseal", "rotate the sealing key"
        RESIZE = "resize", "apply the plan"
        RESIZE_RESTART = "resize_restart", "apply the plan, with a restart"
        QUARANTINE = "quarantine"
        RELEASE = "release"
        MEND = "mend"

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        UNDOING = "undoing"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    ACTIVE = (State.QUEUED, State.RUNNING, State.UNDOING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    runtime = models.ForeignKey(Runtime, on_delete=models.PROTECT, related_name="operations")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    state = models.CharField(max_length=16, choices=State.choices, default=State.QUEUED)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    reason = models.CharField(max_length=500, blank=True)
    phase_before = models.CharField(max_length=16, choices=Runtime.Phase.choices, blank=True)
    cancel_requested = models.BooleanField(default=False)
    holds_slot = models.BooleanField(default=False)
    wait_reason = models.CharField(max_length=300, blank=True)
    waiting_since = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True)
    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    lease_owner = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    fence = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["runtime"],
                condition=Q(state__in=["queued", "running", "undoing"]),
                name="one_active_operation_per_runtime",
            ),
        ]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=Q(state__in=["queued", "running", "undoing"]),
                name="active_operations",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def active(self) -> bool:
        """Whether it is still to be worked on."""
        return self.state in self.ACTIVE


class Resize(models.Model):
    """What an operation makes of a machine's size; both as :mod:`provisioning.quotas` names its parts."""

    operation = models.OneToOneField(
        Operation, primary_key=True, on_delete=models.CASCADE, related_name="resize"
    )
    plan = models.CharField(max_length=32, help_text="The slug of the plan, as it was when it was asked for.")
    before = models.JSONField()
    after = models.JSONField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"to {self.plan} by {self.operation_id}"


class Step(models.Model):
    """One part of an operation, done and undone on its own."""

    class State(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        UNDONE = "undone"

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="steps")
    index = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=20)
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    detail = models.CharField(max_length=300, blank=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["operation", "index"]
        constraints = [models.UniqueConstraint(fields=["operation", "index"], name="one_step_per_place")]

    def __str__(self) -> str:
        return f"{self.index} {self.name}"

    @property
    def seconds(self) -> float | None:
        """How long it took, once finished."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()
