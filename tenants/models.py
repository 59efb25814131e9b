import uuid
from datetime import datetime

from django.conf import settings
from django.core.validators import BaseValidator, MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from protocol.enrolment import LIMIT_RANGES
from tenants.connectors import CONNECTORS, PILOT, Connector

RESERVED_SLUGS = frozenset({"admin", "api", "www", "static", "portal", "status", "mail"})

slug_validator = RegexValidator(
    r"\A[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?\Z",
    "Use 1 to 32 small letters, digits and hyphens; begin with a letter, end with a letter or digit.",
)


REQUESTS_RANGE = (30, 1_000_000)
"""A minute; fewer would lock people out of the page that tells them so."""


def _between(limits: tuple[int, int]) -> list[BaseValidator]:
    least, most = limits
    return [MinValueValidator(least), MaxValueValidator(most)]


def _within(name: str) -> list[BaseValidator]:
    """What a guest takes as this limit; it would refuse its papers otherwise."""
    return _between(LIMIT_RANGES[name])


class Plan(models.Model):
    """What a tenant may use, and the least it must pay for that."""

    slug = models.CharField(max_length=32, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=80)
    vcpus = models.PositiveSmallIntegerField("vCPUs", default=1, validators=[MinValueValidator(1)])
    cpu_percent = models.PositiveSmallIntegerField(
        "CPU cap (% of a core, each vCPU)", default=100, validators=[MinValueValidator(5)]
    )
    memory_mib = models.PositiveIntegerField("memory (MiB)", default=512, validators=[MinValueValidator(384)])
    disk_gib = models.PositiveIntegerField("disk (GiB)", default=2, validators=[MinValueValidator(1)])
    iops = models.PositiveIntegerField(
        "disk operations per second", null=True, blank=True, validators=[MinValueValidator(1)]
    )
    bandwidth_mbit = models.PositiveIntegerField(
        "bandwidth (Mbit/s, each way)",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(100_000)],
        help_text="Empty: no limit. Only hosts whose kernel can shape traffic enforce it.",
    )
    processes = models.PositiveSmallIntegerField(
        default=512,
        validators=_within("processes"),
        help_text="Processes and threads of the gateway, and the most that one job may have.",
    )
    jobs_running = models.PositiveSmallIntegerField(
        "jobs at once", default=2, validators=_within("jobs_running")
    )
    jobs_waiting = models.PositiveSmallIntegerField(
        "jobs waiting", default=20, validators=_within("jobs_waiting")
    )
    api_per_minute = models.PositiveIntegerField(
        "API requests a minute",
        default=600,
        validators=_between(REQUESTS_RANGE),
        help_text="Of all the tenant's members together, at the portal's API.",
    )
    routed_per_minute = models.PositiveIntegerField(
        "routed requests a minute",
        default=1200,
        validators=_between(REQUESTS_RANGE),
        help_text="Of all the tenant's members together, to the machine's own address.",
    )
    cost_floor_cents = models.PositiveIntegerField("cost floor (cents a month)")

    class Meta:
        ordering = ["cost_floor_cents", "slug"]
        constraints = [
            models.CheckConstraint(
                condition=Q(vcpus__gte=1, memory_mib__gte=384, disk_gib__gte=1, cpu_percent__gte=5),
                name="plan_has_room_for_a_guest",
            ),
            models.CheckConstraint(
                condition=Q(
                    **{
                        f"{name}__range": LIMIT_RANGES[name]
                        for name in ("processes", "jobs_running", "jobs_waiting")
                    }
                ),
                name="plan_limits_a_guest_takes",
            ),
            models.CheckConstraint(
                condition=Q(api_per_minute__range=REQUESTS_RANGE, routed_per_minute__range=REQUESTS_RANGE),
                name="plan_lets_some_requests_through",
            ),
            models.CheckConstraint(
                condition=Q(bandwidth_mbit=None) | Q(bandwidth_mbit__range=(1, 100_000)),
                name="plan_bandwidth_is_a_rate",
            ),
            models.CheckConstraint(
                condition=Q(iops=None) | Q(iops__gte=1), name="plan_lets_a_guest_use_its_disk"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Tenant(models.Model):
    """A customer organisation; the unit of isolation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(max_length=32, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=120)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="tenants")
    price_cents = models.PositiveIntegerField("price (cents a month)")
    cost_floor_cents = models.PositiveIntegerField(
        editable=False, help_text="The plan's floor when the tenant was accepted."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    offboarded_at = models.DateTimeField(null=True, editable=False)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="tenants")

    class Meta:
        ordering = ["slug"]
        permissions = [("operate_tenant", "Can operate the tenant's runtime")]
        constraints = [
            models.CheckConstraint(
                condition=Q(price_cents__gte=F("cost_floor_cents")), name="tenant_not_below_cost_floor"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person's place in a tenant."""

    class Role(models.TextChoices):
        OWNER = "owner", "owner"
        MEMBER = "member", "member"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.MEMBER)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_per_person_and_tenant")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.tenant_id} as {self.role}"


class MemberKey(models.Model):
    """A person's public key, registered for one tenant. It opens nothing until an owner signs it in."""

    class Kind(models.TextChoices):
        DEVICE = "device", "device key"
        PASSKEY = "passkey", "passkey"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="member_keys")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="member_keys")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    public_key = models.CharField(
        max_length=1024, help_text="Hexadecimal. Device: 32 bytes; passkey: SubjectPublicKeyInfo in DER."
    )
    fingerprint = models.CharField(max_length=64, help_text="As protocol.persons.PersonKey has it.")
    credential_id = models.CharField(
        max_length=1400, blank=True, help_text="Base64url; passkeys only: how the browser finds it."
    )
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at", "pk"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "fingerprint"], name="one_key_per_tenant_and_fingerprint"
            ),
            models.CheckConstraint(
                condition=Q(kind="device", credential_id="") | (Q(kind="passkey") & ~Q(credential_id="")),
                name="only_a_passkey_has_a_credential_id",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint[:16]}"


class Signed(models.Model):
    """What an owner has signed; the database refuses to change or remove a row (tenants/triggers.py)."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="%(class)ss")
    version = models.PositiveIntegerField()
    document = models.JSONField(help_text="In canonical form.")
    signature = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        abstract = True


class KeyringVersion(Signed):
    """One version of a tenant's keyring, as guests get it."""

    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-version"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version"], name="one_keyring_per_tenant_and_version"),
            models.CheckConstraint(condition=Q(version__gte=1), name="keyring_versions_begin_at_one"),
        ]

    def __str__(self) -> str:
        return f"keyring {self.version} ({self.hash[:16]})"


class ConsentVersion(Signed):
    """One version of what a tenant's owners agree to, as guests get it."""

    keyring = models.ForeignKey(
        KeyringVersion,
        on_delete=models.PROTECT,
        related_name="consents",
        help_text="The one that named the signer an owner; a guest takes the consent while that one holds.",
    )

    class Meta:
        ordering = ["-version"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version"], name="one_consent_per_tenant_and_version"),
            models.CheckConstraint(condition=Q(version__gte=1), name="consent_versions_begin_at_one"),
        ]

    def __str__(self) -> str:
        return f"consent {self.version}"


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
