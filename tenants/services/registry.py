"""Every write to the registry."""

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from audit.context import Actor
from audit.personal import names_of, username
from audit.services import record
from tenants.models import RESERVED_SLUGS, Membership, Plan, Tenant


class TenantError(ValidationError):
    """A request that the registry refuses; the message says what to change."""


@transaction.atomic
def tenant_create(*, actor: Actor, slug: str, name: str, plan: Plan, price_cents: int) -> Tenant:
    """Accept a tenant.

    Raises:
        TenantError: the pilot is full, the price is below the plan's cost floor, or the slug is reserved.
        ValidationError: a field is malformed or the slug is taken.
    """
    # Locks the plans, which every acceptance passes through, so that two at once cannot exceed the cap.
    plans = list(Plan.objects.select_for_update().order_by("pk"))
    plan = next(p for p in plans if p.pk == plan.pk)
    cap = settings.PILOT_TENANT_CAP
    if Tenant.objects.filter(offboarded_at=None).count() >= cap:
        raise TenantError({"__all__": f"The pilot takes at most {cap} tenants. Offboard one first."})
    if price_cents < plan.cost_floor_cents:
        raise TenantError(
            {
                "price_cents": f"Below the cost floor of plan {plan.name}: "
                f"ask for {plan.cost_floor_cents} cents a month or more."
            }
        )
    if slug in RESERVED_SLUGS:
        raise TenantError({"slug": f"{slug!r} is reserved. Choose another."})
    tenant = Tenant(
        slug=slug, name=name, plan=plan, price_cents=price_cents, cost_floor_cents=plan.cost_floor_cents
    )
    tenant.full_clean()
    tenant.save(force_insert=True)
    record(
        action="tenant.created",
        actor=actor,
        tenant_id=tenant.pk,
        target=("tenant", tenant.pk),
        data={"plan": plan.slug, "price_cents": price_cents},
        personal=names_of(tenant.pk, slug=slug, name=name),
    )
    return tenant


@transaction.atomic
def membership_add(*, actor: Actor, tenant: Tenant, user: User, role: str) -> Membership:
    """Give a person a place in a tenant, or change the role they have.

    Raises:
        TenantError: the tenant is offboarded.
    """
    if Tenant.objects.select_for_update().get(pk=tenant.pk).offboarded_at is not None:
        raise TenantError(f"{tenant.name} is offboarded. Nobody is added to it any more.")
    membership, created = Membership.objects.update_or_create(
        tenant=tenant, user=user, defaults={"role": role}
    )
    membership.full_clean()
    record(
        action="membership.added" if created else "membership.changed",
        actor=actor,
        tenant_id=tenant.pk,
        target=("membership", membership.pk),
        data={"user": str(user.pk), "role": role},
        personal={"user": username(user)},
    )
    return membership


@transaction.atomic
def membership_remove(*, actor: Actor, membership: Membership) -> None:
    """Take a person's place in a tenant away."""
    record(
        action="membership.removed",
        actor=actor,
        tenant_id=membership.tenant_id,
        target=("membership", membership.pk),
        data={"user": str(membership.user_id)},
        personal={"user": username(membership.user)},
    )
    membership.delete()


@transaction.atomic
def plan_save(*, actor: Actor, plan: Plan) -> Plan:
    """Add or change a plan. Runtimes that exist keep what they were made with."""
    created = plan.pk is None
    plan.full_clean()
    plan.save()
    record(
        action="plan.created" if created else "plan.changed",
        actor=actor,
        target=("plan", plan.pk),
        data={field.attname: getattr(plan, field.attname) for field in Plan._meta.concrete_fields},
    )
    return plan


@transaction.atomic
def tenant_plan_set(*, actor: Actor, tenant: Tenant, plan: Plan, price_cents: int) -> Tenant:
    """Give a tenant another plan, for a price that covers it. Its machine is not changed by this.

    Raises:
        TenantError: the tenant is offboarded, or the price is below the plan's cost floor.
    """
    tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
    plan = Plan.objects.select_for_update().get(pk=plan.pk)
    if tenant.offboarded_at is not None:
        raise TenantError(f"{tenant.name} is offboarded. Its plan stays what it was.")
    if price_cents < plan.cost_floor_cents:
        raise TenantError(
            {
                "price_cents": f"Below the cost floor of plan {plan.name}: "
                f"ask for {plan.cost_floor_cents} cents a month or more."
            }
        )
    before = tenant.plan.slug
    tenant.plan, tenant.price_cents, tenant.cost_floor_cents = plan, price_cents, plan.cost_floor_cents
    tenant.full_clean()
    tenant.save(update_fields=["plan", "price_cents", "cost_floor_cents"])
    record(
        action="tenant.plan_changed",
        actor=actor,
        tenant_id=tenant.pk,
        target=("tenant", tenant.pk),
        data={"before": before, "plan": plan.slug, "price_cents": price_cents},
    )
    return tenant


@transaction.atomic
def tenant_change(*, actor: Actor, tenant: Tenant, name: str, price_cents: int) -> Tenant:
    """Change what may change in a tenant; never below the floor it was accepted at.

    Raises:
        TenantError: the price is below the floor.
    """
    if price_cents < tenant.cost_floor_cents:
        raise TenantError(
            {"price_cents": f"Below the cost floor: {tenant.cost_floor_cents} cents a month or more."}
        )
    tenant.name, tenant.price_cents = name, price_cents
    tenant.full_clean()
    tenant.save(update_fields=["name", "price_cents"])
    record(
        action="tenant.changed",
        actor=actor,
        tenant_id=tenant.pk,
        target=("tenant", tenant.pk),
        data={"price_cents": price_cents},
        personal=names_of(tenant.pk, name=name),
    )
    return tenant
