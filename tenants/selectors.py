"""Every read of the registry, scoped by the person who reads."""

from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from guardian.shortcuts import get_objects_for_user

from protocol.keyrings import Keyring
from tenants.connectors import CONNECTORS, barred
from tenants.models import (
    ConnectorSecret,
    ConsentVersion,
    KeyringVersion,
    MemberKey,
    Membership,
    Tenant,
    TenantConnector,
    TenantKey,
)

Person = AbstractBaseUser | AnonymousUser


def tenants_for(user: Person) -> QuerySet[Tenant]:
    """The tenants that ``user`` may know of: staff by permission, others by membership."""
    if not isinstance(user, User) or not user.is_active:
        return Tenant.objects.none()
    # An offboarded tenant is there for staff only: its rows are kept, its people's places count no more.
    scope = Q(memberships__user=user, offboarded_at=None)
    if user.is_staff:
        operated = get_objects_for_user(user, "tenants.operate_tenant", Tenant)
        scope |= Q(pk__in=operated.values("pk"))
    return Tenant.objects.filter(scope).distinct()


def tenants_of_member(user: Person) -> QuerySet[Tenant]:
    """The tenants in which ``user`` has a place; what staff may operate is not among them by that."""
    if not isinstance(user, User) or not user.is_active:
        return Tenant.objects.none()
    return Tenant.objects.filter(memberships__user=user, offboarded_at=None)


def places() -> QuerySet[Membership]:
    """The places that count: those in tenants that are not offboarded."""
    return Membership.objects.filter(tenant__offboarded_at=None)


def is_member(user: Person, tenant: Tenant) -> bool:
    """Whether ``user`` has a place in ``tenant``, as owner or member."""
    return isinstance(user, User) and user.is_active and places().filter(user=user, tenant=tenant).exists()


def is_owner(user: Person, tenant: Tenant) -> bool:
    """Whether ``user`` owns ``tenant``."""
    return (
        isinstance(user, User)
        and user.is_active
        and places().filter(user=user, tenant=tenant, role=Membership.Role.OWNER).exists()
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
    present = places().filter(tenant=OuterRef("tenant"), user=OuterRef("user"))
    holders = {key.user for key in keys.filter(Exists(present)).select_related("user")}
    return holders.pop() if len(holders) == 1 else None


def secrets_for(user: Person) -> QuerySet[ConnectorSecret]:
    """Every version of the connector secrets that ``user`` may know of; never what is in them."""
    return ConnectorSecret.objects.filter(tenant__in=tenants_for(user)).select_related("tenant", "created_by")


def secrets_of(tenant: Tenant) -> QuerySet[ConnectorSecret]:
    """Those of ``tenant``, which the caller has found in their scope; by name, the newest version first."""
    return ConnectorSecret.objects.filter(tenant=tenant).select_related("created_by").defer("wrapped")


def connectors_of(tenant: Tenant) -> list[TenantConnector]:
    """How ``tenant`` stands to each connector of the table, in its order; unsaved where there is no row."""
    found = TenantConnector.objects.filter(tenant=tenant).select_related("allowed_by", "enabled_by")
    rows = {row.connector: row for row in found}
    return [rows.get(slug) or TenantConnector(tenant=tenant, connector=slug) for slug in CONNECTORS]


def allowed_hosts(tenant_id: UUID) -> list[tuple[str, int]]:
    """The hosts and ports that the machine of ``tenant_id`` may reach now, sorted; none for no such tenant.

    The program's table and this process's own setting decide with the rows: an enabled row of a connector
    that is unknown, or that the pilot bars, opens nothing.
    """
    rows = TenantConnector.objects.filter(
        tenant=tenant_id, tenant__offboarded_at=None, allowed=True, enabled=True
    )
    slugs = [slug for slug in rows.values_list("connector", flat=True) if not barred(slug)]
    reaches = (reach for slug in slugs if slug in CONNECTORS for reach in CONNECTORS[slug].reaches)
    return sorted({(reach.host, reach.port) for reach in reaches})


def current_key(tenant_id: UUID) -> TenantKey | None:
    """The key that wraps what ``tenant_id`` seals now."""
    return TenantKey.objects.filter(tenant=tenant_id, state=TenantKey.State.CURRENT).first()


def keys_due() -> QuerySet[Tenant]:
    """Tenants for which a worker has to make a key: they have none, or somebody has asked for the next."""
    current = TenantKey.objects.filter(tenant=OuterRef("pk"), state=TenantKey.State.CURRENT)
    return Tenant.objects.filter(offboarded_at=None).filter(
        ~Exists(current) | Exists(current.filter(rotation_wanted=True))
    )
