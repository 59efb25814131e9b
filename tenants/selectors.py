"""Every read of the registry, scoped by the person who reads."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Q, QuerySet
from guardian.shortcuts import get_objects_for_user

from tenants.models import Membership, Tenant

Person = AbstractBaseUser | AnonymousUser


def tenants_for(user: Person) -> QuerySet[Tenant]:
    """The tenants that ``user`` may know of: staff by permission, others by membership."""
    if not isinstance(user, User) or not user.is_active:
        return Tenant.objects.none()
    scope = Q(memberships__user=user)
    if user.is_staff:
        operated = get_objects_for_user(user, "tenants.operate_tenant", Tenant)
        scope |= Q(pk__in=operated.values("pk"))
    return Tenant.objects.filter(scope).distinct()


def is_member(user: Person, tenant: Tenant) -> bool:
    """Whether ``user`` has a place in ``tenant``, as owner or member."""
    return (
        isinstance(user, User)
        and user.is_active
        and Membership.objects.filter(user=user, tenant=tenant).exists()
    )


def is_owner(user: Person, tenant: Tenant) -> bool:
    """Whether ``user`` owns ``tenant``."""
    return (
        isinstance(user, User)
        and user.is_active
        and Membership.objects.filter(user=user, tenant=tenant, role=Membership.Role.OWNER).exists()
    )


def is_operator(user: Person, tenant: Tenant) -> bool:
    """Whether ``user`` is staff who may operate ``tenant``: for all tenants, or for this one."""
    if not isinstance(user, User) or not (user.is_active and user.is_staff):
        return False
    return user.has_perm("tenants.operate_tenant") or user.has_perm("tenants.operate_tenant", tenant)
