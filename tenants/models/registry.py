"""Tenants and their people."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from tenants.models.plans import Plan, slug_validator


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
