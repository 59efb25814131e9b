from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from guardian.shortcuts import assign_perm

from audit.context import command
from audit.models import Entry
from tenants.models import Membership, Plan, Tenant
from tenants.selectors import is_operator, is_owner, tenants_for
from tenants.services import TenantError, membership_add, membership_remove, tenant_change

pytestmark = pytest.mark.django_db
TESTER = command("test")


def test_a_tenant_is_recorded(tenant: Tenant) -> None:
    """Acceptance leaves an entry with what was agreed."""
    assert Entry.objects.filter(action="tenant.created", tenant_id=tenant.pk).count() == 1


def test_the_sixth_tenant_is_refused(make_tenant: Callable[..., Tenant], settings: Any) -> None:
    """Rule 7: the pilot's cap."""
    for number in range(settings.PILOT_TENANT_CAP):
        make_tenant(f"tenant-{number}")
    with pytest.raises(TenantError, match="at most 5 tenants"):
        make_tenant("one-more")
    assert Tenant.objects.count() == 5


def test_below_the_cost_floor_is_refused(make_tenant: Callable[..., Tenant], plan: Plan) -> None:
    """Rule 9, with the price that would do."""
    with pytest.raises(TenantError, match="4900"):
        make_tenant(price_cents=4899)
    assert make_tenant(price_cents=4900).price_cents == 4900


def test_the_database_refuses_below_the_floor_too(tenant: Tenant) -> None:
    """Rule 9 holds even for plain SQL."""
    with pytest.raises(IntegrityError), transaction.atomic():
        Tenant.objects.filter(pk=tenant.pk).update(price_cents=1)


def test_a_later_price_below_the_floor_is_refused(tenant: Tenant) -> None:
    """Nor by changing it afterwards."""
    with pytest.raises(TenantError):
        tenant_change(actor=TESTER, tenant=tenant, name="Acme", price_cents=10)


@pytest.mark.parametrize("slug", ["admin", "Api", "a b", "-a", "a-", "é", "a" * 33, "a\n", ""])
def test_bad_slugs_are_refused(make_tenant: Callable[..., Tenant], slug: str) -> None:
    """Reserved names and what is no DNS label."""
    with pytest.raises(ValidationError):
        make_tenant(slug, name="x")


def test_without_an_entry_nothing_happens(
    make_tenant: Callable[..., Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 1: the record fails, so the tenant is not there."""

    def broken(**given: Any) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr("tenants.services.registry.record", broken)
    with pytest.raises(RuntimeError):
        make_tenant()
    assert not Tenant.objects.exists()


def test_people_see_only_their_tenants(
    make_tenant: Callable[..., Tenant], make_user: Callable[..., User], operator: User
) -> None:
    """Rule 2: members by membership, staff by permission, for all or for one."""
    acme, other = make_tenant("acme"), make_tenant("other")
    member, half_staff, stranger = make_user("m"), make_user("s", is_staff=True), make_user("x")
    membership_add(actor=TESTER, tenant=acme, user=member, role=Membership.Role.MEMBER)
    assign_perm("tenants.operate_tenant", half_staff, other)
    seen = {u.username: set(tenants_for(u)) for u in (member, half_staff, stranger, operator)}
    assert seen == {"m": {acme}, "s": {other}, "x": set(), "operator": {acme, other}}
    assert is_operator(half_staff, other)
    assert not is_operator(half_staff, acme)
    assert not is_owner(member, acme)


def test_a_person_who_was_switched_off_sees_nothing(tenant: Tenant, owner: User) -> None:
    """Inactive accounts have no scope."""
    owner.is_active = False
    owner.save()
    assert not tenants_for(owner).exists()


def test_membership_changes_are_recorded(tenant: Tenant, owner: User) -> None:
    """Adding, changing and removing each leave an entry."""
    changed = membership_add(actor=TESTER, tenant=tenant, user=owner, role=Membership.Role.MEMBER)
    membership_remove(actor=TESTER, membership=changed)
    actions = list(Entry.objects.order_by("pk").values_list("action", flat=True))
    assert actions[-3:] == ["membership.added", "membership.changed", "membership.removed"]
