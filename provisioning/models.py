"""Hosts, images, runtimes, and the operations that change them."""

import uuid

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.models import Tenant


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
from provisioning.drift.models import DriftFinding as DriftFinding  # noqa: E402
from provisioning.drift.models import Told as Told  # noqa: E402
