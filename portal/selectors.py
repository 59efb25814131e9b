"""Reads that join the record, which knows no tenants, with the people who may see it."""

from django.contrib.auth.models import User
from django.db.models import QuerySet

from audit.models import Entry, PersonalDatum
from tenants.selectors import Person, tenants_for


def entries_for(user: Person) -> QuerySet[Entry]:
    """The entries that ``user`` may read: all of them for operators of every tenant, else their tenants'."""
    if not isinstance(user, User) or not (user.is_active and user.is_staff):
        return Entry.objects.none()
    if user.has_perm("tenants.operate_tenant"):
        return Entry.objects.all()
    return Entry.objects.filter(tenant_id__in=tenants_for(user).values("pk"))


def personal_for(user: Person) -> QuerySet[PersonalDatum]:
    """What ``user`` may look through of the record's personal data: all or nothing, for people cross tenants."""
    if not isinstance(user, User) or not (user.is_active and user.is_staff):
        return PersonalDatum.objects.none()
    if not user.has_perms(["tenants.operate_tenant", "audit.view_personaldatum"]):
        return PersonalDatum.objects.none()
    return PersonalDatum.objects.all()
