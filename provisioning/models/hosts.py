"""Hosts and the images that their guests boot."""

import uuid

from django.core.validators import MinValueValidator
from django.db import models


class Host(models.Model):
    """A libvirt hypervisor, reached by a libvirt URI."""

    class Engine(models.TextChoices):
        KVM = "kvm", "KVM"
        QEMU = "qemu", "QEMU (software emulation)"
        TEST = "test", "simulated"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=64, unique=True)
    uri = models.CharField("libvirt URI", max_length=200, unique=True)
    engine = models.CharField(max_length=8, choices=Engine.choices)
    pool_path = models.CharField(max_length=300, help_text="Directory on the host for data volumes.")
    enabled = models.BooleanField(default=True, help_text="Off: no new runtime is placed here.")
    build_slots = models.PositiveSmallIntegerField(
        default=2, validators=[MinValueValidator(1)], help_text="How many guests may be started at once."
    )
    vcpus = models.PositiveIntegerField("vCPUs")
    memory_mib = models.PositiveIntegerField("memory (MiB)")
    disk_gib = models.PositiveIntegerField("disk (GiB)")
    capabilities = models.JSONField(default=list)
    evidence = models.JSONField(default=list, help_text="What the probe saw when it chose the engine.")
    probed_at = models.DateTimeField()
    seen_at = models.DateTimeField(null=True)
    drift_checked_at = models.DateTimeField(
        null=True, help_text="When it was last compared with what it was told."
    )
    problem = models.CharField(max_length=300, blank=True)
    seal = models.BinaryField(default=b"", help_text="Set by registration; see provisioning/seals.py.")
    egress_path = models.CharField(
        "egress keeper's folder",
        max_length=300,
        blank=True,
        help_text="Directory on the host through which its egress keeper is spoken to; empty: no way out.",
    )
    egress_generation = models.PositiveBigIntegerField(
        "newest rules", default=0, help_text="The newest rule document that was made for this host."
    )
    egress_digest = models.CharField(
        max_length=64, blank=True, help_text="SHA-256 of what that document says, its number aside."
    )
    egress_applied = models.PositiveBigIntegerField(
        "rules in force", default=0, help_text="The rule document that the proxy follows, as its keeper says."
    )
    egress_applied_at = models.DateTimeField(null=True)
    egress_seen_at = models.DateTimeField(null=True, help_text="When the keeper last said that it lives.")
    egress_problem = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class GuestImage(models.Model):
    """The read-only system that runtimes boot; built by us, hash-checked before each boot."""

    version = models.CharField(max_length=40, unique=True)
    directory = models.CharField(max_length=300)
    sha256 = models.JSONField(help_text="File name → SHA-256 in hex.")
    cmdline = models.CharField(max_length=500, blank=True)
    size_bytes = models.PositiveBigIntegerField()
    retired = models.BooleanField(default=False)
    checked = models.BooleanField(
        default=False,
        help_text="An agent's turn ran in a guest of just these files; see guest/image/check.py.",
    )
    check_result = models.JSONField(default=dict, blank=True, help_text="What that check measured.")
    registered_at = models.DateTimeField(auto_now_add=True)
    seal = models.BinaryField(default=b"", help_text="Set by registration; see provisioning/seals.py.")

    class Meta:
        ordering = ["-registered_at"]

    def __str__(self) -> str:
        return self.version
