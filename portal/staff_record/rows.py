"""Entries as rows of a table: numbers turned into names by two queries a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet

from audit.models import Entry
from tenants.models import Membership, Tenant


@dataclass(frozen=True)
class Row:
    """One entry, in words."""

    entry: Entry
    actor: str
    """A person's name, or the kind and id of what acted."""
    actor_asked: str
    """What to type to find this actor's entries."""
    tenant: str
    """The short name; the id of a tenant that is gone; empty for none."""


def rows_of(entries: Sequence[Entry], *, scope: tuple[UUID, ...] | None) -> list[Row]:
    """In the order given. ``scope``: of which tenants the reader may know the people by name; None: all."""
    people = _people(entries, scope)
    tenants = dict(
        Tenant.objects.filter(pk__in={e.tenant_id for e in entries if e.tenant_id}).values_list("pk", "slug")
    )
    return [_row(entry, people, tenants) for entry in entries]


def _row(entry: Entry, people: dict[str, str], tenants: dict[UUID, str]) -> Row:
    kind_and_id = f"{entry.actor_kind}:{entry.actor_id}" if entry.actor_id else entry.actor_kind
    name = people.get(entry.actor_id, "") if entry.actor_kind == "user" else ""
    tenant = tenants.get(entry.tenant_id, str(entry.tenant_id)) if entry.tenant_id else ""
    return Row(entry, name or kind_and_id, kind_and_id, tenant)


def _people(entries: Sequence[Entry], scope: tuple[UUID, ...] | None) -> dict[str, str]:
    ids = {int(e.actor_id) for e in entries if e.actor_kind == "user" and e.actor_id.isdecimal()}
    found = people_of(scope).filter(pk__in=ids).values_list("pk", "username")
    return {str(pk): name for pk, name in found}


def people_of(scope: tuple[UUID, ...] | None) -> QuerySet[User]:
    """Whom staff with this scope may know by name: the people of its tenants, for None everybody.

    Not those who have left, nor the strangers and other staff who have acted on these tenants.
    """
    if scope is None:
        return User.objects.all()
    return User.objects.filter(Exists(Membership.objects.filter(user=OuterRef("pk"), tenant__in=scope)))
