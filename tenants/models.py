import uuid

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

RESERVED_SLUGS = frozenset({"admin", "api", "www", "static", "portal", "status", "mail"})

slug_validator = RegexValidator(
    r"\A[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?\Z",
    "Use 1 to 32 small letters, digits and hyphens; begin with a letter, end with a letter or digit.",
)


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
    iops = models.PositiveIntegerField("disk operations per second", null=True, blank=True)
    cost_floor_cents = models.PositiveIntegerField("cost floor (cents a month)")

    class Meta:
        ordering = ["cost_floor_cents", "slug"]
        constraints = [
            models.CheckConstraint(
                condition=Q(vcpus__gte=1, memory_mib__gte=384, disk_gib__gte=1, cpu_percent__gte=5),
                name="plan_has_room_for_a_guest",
            )
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
