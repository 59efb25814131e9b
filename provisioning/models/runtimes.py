"""Tenants' machines."""

import uuid

from django.db import models
from django.db.models import Q

from provisioning.models.hosts import GuestImage, Host
from tenants.models import Tenant


class Runtime(models.Model):
    """A tenant's virtual machine. ``phase`` changes only through :mod:`provisioning.transitions`."""

    class Phase(models.TextChoices):
        PENDING = "pending"
        PROVISIONING = "provisioning"
        READY = "ready"
        STOPPED = "stopped"
        FAILED = "failed"
        QUARANTINED = "quarantined"
        DELETING = "deleting"
        DELETED = "deleted"

    class Power(models.TextChoices):
        RUNNING = "running"
        OFF = "off"
        PAUSED = "paused"
        CRASHED = "crashed"
        ABSENT = "absent"
        UNKNOWN = "unknown"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="runtimes")
    host = models.ForeignKey(Host, null=True, on_delete=models.PROTECT, related_name="runtimes")
    image = models.ForeignKey(GuestImage, on_delete=models.PROTECT, related_name="runtimes")
    phase = models.CharField(max_length=16, choices=Phase.choices, default=Phase.PENDING)
    power = models.CharField(max_length=16, choices=Power.choices, default=Power.ABSENT)
    power_seen_at = models.DateTimeField(null=True)
    reserved = models.BooleanField(default=False, help_text="Counts against the host's capacity.")
    vcpus = models.PositiveSmallIntegerField("vCPUs")
    cpu_percent = models.PositiveSmallIntegerField()
    memory_mib = models.PositiveIntegerField()
    disk_gib = models.PositiveIntegerField()
    iops = models.PositiveIntegerField(null=True)
    bandwidth_mbit = models.PositiveIntegerField(null=True)
    processes = models.PositiveSmallIntegerField(default=512)
    jobs_running = models.PositiveSmallIntegerField(default=2)
    jobs_waiting = models.PositiveSmallIntegerField(default=20)
    spare_vcpus = models.PositiveIntegerField(
        default=0, help_text="Reserved besides its own, while a change of size may go either way."
    )
    spare_memory_mib = models.PositiveIntegerField(default=0)
    spare_disk_gib = models.PositiveIntegerField(default=0)
    usage = models.JSONField(default=dict, help_text="What the guest last said that it uses; see usage.py.")
    usage_at = models.DateTimeField(null=True)
    network_index = models.PositiveIntegerField(help_text="Which /30 of the pool.")
    mac = models.CharField(max_length=17)
    volume_key = models.BinaryField(null=True, help_text="The data volume's passphrase, wrapped.")
    enrolment_secret = models.BinaryField(null=True, help_text="One-time, wrapped; empty once spent.")
    sealing_public_key = models.CharField(max_length=64, blank=True)
    certificate_serial = models.CharField(max_length=40, blank=True)
    certificate_expires_at = models.DateTimeField(null=True)
    certificate_issuer = models.CharField(
        max_length=40, blank=True, help_text="Serial number of the CA that issued it; empty: not known."
    )
    trust_seen = models.CharField(
        max_length=64, blank=True, help_text="Hash of the trust that the guest last confirmed."
    )
    agent_address = models.CharField(
        max_length=64, blank=True, help_text="Where the proxy reaches the agent: IPv4:port."
    )
    access_closed_by = models.CharField(
        max_length=8,
        blank=True,
        choices=[("owner", "an owner"), ("staff", "staff")],
        help_text="Who has closed every content route of the guest; empty: open.",
    )
    access_closed_seen = models.BooleanField(default=False, help_text="What the guest last confirmed.")
    stated = models.JSONField(
        default=dict, help_text="What the guest last said of keyring, consents and sealing key."
    )
    stated_at = models.DateTimeField(null=True)
    keyring_told = models.PositiveIntegerField(
        default=0, help_text="The newest version that the guest has answered to, by taking or refusing it."
    )
    consents_told = models.PositiveIntegerField(default=0, help_text="The same for consents.")
    members_refused = models.CharField(
        max_length=40, blank=True, help_text="Why the guest does not hold what it was told; empty: it does."
    )
    first_ready_at = models.DateTimeField(
        null=True, help_text="Once set, the data volume may hold the tenant's files and is never undone."
    )
    egress = models.BooleanField(default=False, help_text="Its host's proxy is to serve it.")
    egress_hosts = models.JSONField(
        default=list, help_text="Names and ports that the proxy lets it reach, as its keeper last confirmed."
    )
    egress_at = models.DateTimeField(null=True, help_text="Since when; empty: the proxy does not serve it.")
    direct_packets = models.PositiveBigIntegerField(
        default=0, help_text="Packets by which the guest tried to pass the proxy by, all dropped."
    )
    direct_bytes = models.PositiveBigIntegerField(default=0)
    direct_at = models.DateTimeField(null=True, help_text="When they last became more.")
    direct_seen_packets = models.PositiveBigIntegerField(
        default=0, help_text="What the host's own counter last showed; it starts anew with the host."
    )
    direct_seen_bytes = models.PositiveBigIntegerField(default=0)
    drift_looked_at = models.DateTimeField(
        null=True,
        help_text="When a drift check last looked; none does while an operation changes it.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"], condition=~Q(phase="deleted"), name="one_runtime_per_tenant"
            ),
            models.UniqueConstraint(
                fields=["network_index"], condition=~Q(phase="deleted"), name="one_runtime_per_network"
            ),
            models.UniqueConstraint(
                fields=["mac"], condition=~Q(phase="deleted"), name="one_runtime_per_mac"
            ),
            models.CheckConstraint(
                condition=~Q(phase="deleted") | Q(volume_key=None, host=None, reserved=False),
                name="deleted_runtime_holds_nothing",
            ),
            models.CheckConstraint(
                condition=~Q(phase="deleted") | Q(egress=False), name="deleted_runtime_is_not_served"
            ),
            models.CheckConstraint(
                condition=Q(reserved=True) | Q(spare_vcpus=0, spare_memory_mib=0, spare_disk_gib=0),
                name="only_a_reserved_runtime_holds_spare_room",
            ),
        ]

    def __str__(self) -> str:
        return f"rt-{self.pk}"
