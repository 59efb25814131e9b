"""Every read of the registry, scoped by the person who reads."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from guardian.shortcuts import get_objects_for_user

from protocol.keyrings import Keyring
from tenants.models import ConsentVersion, KeyringVersion, MemberKey, Membership, Tenant

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


def latest_keyring(tenant: Tenant) -> KeyringVersion | None:
    """What the portal holds for ``tenant``, which the caller has found in their scope."""
    return KeyringVersion.objects.filter(tenant=tenant).first()


def current_keyring(tenant: Tenant) -> Keyring | None:
    """The same, read."""
    stored = latest_keyring(tenant)
    return Keyring.parse(stored.document) if stored else None


def latest_consents(tenant: Tenant) -> ConsentVersion | None:
    """What owners of ``tenant`` agree to now."""
    return ConsentVersion.objects.filter(tenant=tenant).first()


def keys_of(tenant: Tenant) -> QuerySet[MemberKey]:
    """The keys of present members of ``tenant``, each with its holder and, as ``role``, their place."""
    place = Membership.objects.filter(tenant=OuterRef("tenant"), user=OuterRef("user"))
    return (
        MemberKey.objects.filter(tenant=tenant)
        .annotate(role=Subquery(place.values("role")[:1]))
        .exclude(role=None)
        .select_related("user")
    )


def key_holder(fingerprint: str) -> User | None:
    """The one active person who signs in with this key, as a member of the tenant it is registered for."""
    keys = MemberKey.objects.filter(fingerprint=fingerprint, kind=MemberKey.Kind.DEVICE, user__is_active=True)
    present = Membership.objects.filter(tenant=OuterRef("tenant"), user=OuterRef("user"))
    holders = {key.user for key in keys.filter(Exists(present)).select_related("user")}
    return holders.pop() if len(holders) == 1 else None
