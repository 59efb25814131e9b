"""Who did something, as a tenant may know it: its own people by name, everybody else by what they are."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import Exists, OuterRef

from audit.models import Entry
from tenants.models import Membership, Tenant

OTHERS = {
    "system": "The portal",
    "command": "An operator, by command",
    "anonymous": "Somebody not signed in",
}
STAFF = "Staff"
FORMER = "A former member"


def names(ids: set[str], tenant: Tenant) -> dict[str, str]:
    """What the tenant may call these people, by their ids. One query."""
    numbers = {one for one in ids if one.isascii() and one.isdigit() and len(one) < 19}
    if not numbers:
        return {}
    place = Membership.objects.filter(user=OuterRef("pk"), tenant=tenant)
    found = User.objects.filter(pk__in=numbers).annotate(belongs=Exists(place))
    return {str(user.pk): _name(user, user.belongs) for user in found}  # type: ignore[attr-defined]


def who(entry: Entry, known: dict[str, str]) -> str:
    """The actor of an entry, in a word or two."""
    if entry.actor_kind == "user":
        return known.get(entry.actor_id, FORMER)
    return OTHERS.get(entry.actor_kind, entry.actor_kind.capitalize())


def is_own(entry: Entry, person: AbstractBaseUser | AnonymousUser) -> bool:
    """Whether ``person`` did it."""
    return entry.actor_kind == "user" and entry.actor_id == str(person.pk)


def _name(user: User, belongs: bool) -> str:
    return user.username if belongs else STAFF if user.is_staff else FORMER
