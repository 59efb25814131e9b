"""One entry: what it says, where it stands in the log, and how anybody can check that."""

import json
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.http import HttpRequest

from audit import log, personal, proofs
from audit.context import Actor
from audit.models import Checkpoint, Cosignature, Entry, Leaf, Segment
from audit.proofs import note_of, witnesses_about
from audit.services import record
from portal.staff_record.rows import rows_of
from protocol.checkpoints import hash_lines
from protocol.merkle import ProofError

MAY_OPEN = ["tenants.operate_tenant", "audit.view_personaldatum"]
"""As for :func:`portal.selectors.personal_for`: people cross tenants."""
ROLES = {
    "actor": "Who acted",
    "cause": "Who had asked",
    "address": "From",
    "name": "Name",
    "reason": "Reason",
}
"""Commitments by the role they have in an event, in words; another role stands as it is."""
OLDER_SHOWN = 5


@dataclass(frozen=True)
class Place:
    """An entry in the tree of the newest checkpoint."""

    index: int
    checkpoint: Checkpoint
    note: str
    """With the signatures of witnesses outside and of the tenant's own machine."""
    cosignatures: list[Cosignature]
    inclusion: str
    """The hashes, one a line, as C2SP writes them."""
    root: str


@dataclass(frozen=True)
class Since:
    """That the newest tree begins with an older one."""

    old: Checkpoint
    new: Checkpoint
    proof: str


def context_of(request: HttpRequest, entry: Entry) -> dict[str, Any]:
    """For the page."""
    leaf = Leaf.objects.filter(entry=entry).first()
    head = proofs.latest()
    place = _place(entry, leaf, head)
    since, problem = _since(request.GET.get("since", ""), head)
    return {
        "row": rows_of([entry])[0],
        "event": _pretty(entry),
        "place": place,
        "segment": None if entry.event or leaf is None else _segment(leaf.index),
        "since": since,
        "since_problem": problem,
        "older": Checkpoint.objects.order_by("-size").values_list("size", flat=True)[1 : OLDER_SHOWN + 1],
        "vkey": str(log.vkey()),
        "commitments": _commitments(entry),
        "may_open": request.user.has_perms(MAY_OPEN),
        "opened": None,
    }


@transaction.atomic
def opened(actor: Actor, entry: Entry) -> list[tuple[str, str | None]]:
    """What the entry's commitments stand for, by role; None: erased. That somebody looked is on record."""
    record(
        action="record.personal_opened",
        actor=actor,
        tenant_id=entry.tenant_id,
        target=("entry", entry.pk),
    )
    found = personal.data_of([_event(entry)])[0]
    return [(ROLES.get(role, role), datum.shown if datum else None) for role, datum in sorted(found.items())]


def _event(entry: Entry) -> dict[str, Any]:
    try:
        found = json.loads(entry.event)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _pretty(entry: Entry) -> str:
    found = _event(entry)
    return json.dumps(found, indent=2, ensure_ascii=False, sort_keys=True) if found else entry.event


def _commitments(entry: Entry) -> list[str]:
    held = _event(entry).get("personal")
    return [ROLES.get(role, role) for role in sorted(held)] if isinstance(held, dict) else []


def _place(entry: Entry, leaf: Leaf | None, head: Checkpoint | None) -> Place | None:
    if leaf is None or head is None or leaf.index >= head.size:
        return None
    try:
        inclusion = hash_lines(tuple(proofs.inclusion(leaf.index, head.size)))
    except ProofError as error:
        inclusion = f"The tree does not hang together: {error}. Run manage.py audit_verify."
    # Other tenants' machines sign too: their names are for none who reads of this one.
    named = witnesses_about(entry.tenant_id)
    signed = head.cosignatures.filter(witness__in=named).select_related("witness")
    rows = list(signed.order_by("witness__target", "witness__name"))
    return Place(leaf.index, head, note_of(head, named), rows, inclusion, bytes(head.root).hex())


def _segment(index: int) -> Segment | None:
    return Segment.objects.filter(first__lte=index, end__gt=index).first()


def _since(size: str, head: Checkpoint | None) -> tuple[Since | None, str]:
    """The checkpoint of this size, or the next smaller one that was signed."""
    if not size or head is None:
        return None, ""
    if not (size.isascii() and size.isdigit() and 0 < int(size[:19]) <= head.size):
        return None, f"Give a number of entries from 1 to {head.size}."
    old = Checkpoint.objects.filter(size__lte=int(size)).order_by("-size").first()
    if old is None:
        return None, "No checkpoint of so few entries was signed."
    try:
        return Since(old, head, hash_lines(tuple(proofs.consistency(old.size, head.size)))), ""
    except ProofError as error:
        return None, f"The tree does not hang together: {error}. Run manage.py audit_verify."
