"""Reads that join the record, which knows no tenants, with the people who may see it."""

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from audit.models import Dispute, Entry, PersonalDatum, Witness, WitnessRefusal
from tenants.selectors import Person, tenants_for


def entries_for(user: Person) -> QuerySet[Entry]:
    """The entries that ``user`` may read: all of them for operators of every tenant, else their tenants'."""
    if not isinstance(user, User) or not (user.is_active and user.is_staff):
        return Entry.objects.none()
    if user.has_perm("tenants.operate_tenant"):
        return Entry.objects.all()
    return Entry.objects.filter(tenant_id__in=tenants_for(user).values("pk"))


def personal_for(user: Person) -> QuerySet[PersonalDatum]:
    """The personal data that ``user`` may look through: all or nothing, for people cross tenants."""
    if not isinstance(user, User) or not (user.is_active and user.is_staff):
        return PersonalDatum.objects.none()
    if not user.has_perms(["tenants.operate_tenant", "audit.view_personaldatum"]):
        return PersonalDatum.objects.none()
    return PersonalDatum.objects.all()


def witnesses_for(user: Person) -> QuerySet[Witness]:
    """The witnesses that ``user`` may know of: those outside, and the guests of tenants that they operate."""
    if not isinstance(user, User) or not (user.is_active and user.is_staff):
        return Witness.objects.none()
    if user.has_perm("tenants.operate_tenant"):
        return Witness.objects.all()
    return Witness.objects.filter(Q(tenant_id=None) | Q(tenant_id__in=tenants_for(user).values("pk")))


def refusals_for(user: Person) -> QuerySet[WitnessRefusal]:
    """The refusals of those witnesses."""
    return WitnessRefusal.objects.filter(witness__in=witnesses_for(user))


def disputes_for(user: Person) -> QuerySet[Dispute]:
    """The disputes that ``user`` may read: all, for operators of every tenant, else their tenants'."""
    if not isinstance(user, User) or not (user.is_active and user.is_staff):
        return Dispute.objects.none()
    if user.has_perm("tenants.operate_tenant"):
        return Dispute.objects.all()
    return Dispute.objects.filter(tenant_id__in=tenants_for(user).values("pk"))
