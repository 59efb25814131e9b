"""Who did something, as a tenant may know it: its own people by name, everybody else by what they are."""

from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef

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
    return {str(user.pk): _name(user, user.belongs) for user in found}


def mentioned(event: dict[str, Any]) -> Iterator[str]:
    """The ids of the people in an event: who acted, who asked for it, whom it is about."""
    for role in ("actor", "cause"):
        about = event.get(role) or {}
        if about.get("kind") == "user":
            yield str(about.get("id"))
    data = event.get("data") or {}
    if "user" in data:
        yield str(data["user"])


def who(event: dict[str, Any], known: dict[str, str]) -> str:
    """Who acted, in a few words, and for whom."""
    cause = event.get("cause")
    acted = _one(event.get("actor") or {}, known)
    return f"{acted}, for {_one(cause, known)}" if cause else acted


def _one(about: dict[str, Any], known: dict[str, str]) -> str:
    kind = str(about.get("kind"))
    if kind == "user":
        return known.get(str(about.get("id")), FORMER)
    return OTHERS.get(kind, kind.capitalize())


def _name(user: User, belongs: bool) -> str:
    return user.username if belongs else STAFF if user.is_staff else FORMER
