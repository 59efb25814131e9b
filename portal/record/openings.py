"""Which of the personal data behind an entry's commitments a reader of the tenant's may see.

A member sees the names of the tenant's own people and why something was done; addresses only of their own
requests, an owner those of all members. Of staff and strangers nobody sees any.
"""

import json
from collections.abc import Sequence

from audit.models import Entry, PersonalDatum
from protocol.receipts import Opening
from tenants.models import Membership, Tenant
from tenants.selectors import Person, is_owner

TOLD = {"reason", "name"}
"""Kinds that say something about the tenant, not about a person."""


def readable(reader: Person, tenant: Tenant, entries: Sequence[Entry]) -> list[tuple[Opening, ...]]:
    """For each entry of the tenant's, what ``reader`` may see and opens. Three queries for all of them."""
    return [tuple(row.opening for row in rows if row.opens) for rows in visible(reader, tenant, entries)]


def visible(reader: Person, tenant: Tenant, entries: Sequence[Entry]) -> list[tuple[PersonalDatum, ...]]:
    """The same as it stands in the table, with what opens no commitment: that is for nobody to see."""
    wanted = [sorted(set(_commitments(entry))) for entry in entries]
    rows = PersonalDatum.objects.filter(commitment__in={text for one in wanted for text in one})
    seen = _subjects(reader, tenant)
    found = {row.commitment: row for row in rows if row.kind in TOLD or row.subject in seen.get(row.kind, ())}
    return [tuple(found[text] for text in one if text in found) for one in wanted]


def _commitments(entry: Entry) -> list[str]:
    # The words of an archived entry are not here any more.
    return list(json.loads(entry.event).get("personal", {}).values()) if entry.event else []


def _subjects(reader: Person, tenant: Tenant) -> dict[str, set[str]]:
    """For each kind that is about people, whose may be seen."""
    members = {f"user:{pk}" for pk in Membership.objects.filter(tenant=tenant).values_list("user", flat=True)}
    own = {f"user:{reader.pk}"}
    return {"username": members | own, "address": members | own if is_owner(reader, tenant) else own}
