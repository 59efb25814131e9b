"""The log's signed heads as people see them: how large, when, and who has witnessed them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from audit import log, proofs
from audit.models import Checkpoint, Cosignature, Entry
from portal.secrets import present_runtime
from protocol.notes import Note, encode
from tenants.models import Tenant

OUTSIDE = ""
"""The target of a witness that is nobody's machine."""
PATIENCE = timedelta(minutes=2)
"""How old an entry may be and still be missing from a head, because witnesses have not signed a later one.

Some of their rounds. Looking at the record is itself an entry: without this nobody would see a signed head.
"""
_NEWEST = 100
"""Entries looked at for the highest place in the log: places grow with ids, all but a little."""


@dataclass(frozen=True)
class Witnessed:
    """One cosignature under a head."""

    name: str
    key: str
    """Its verifier key."""
    at: datetime
    own: bool
    """Whether it is the tenant's own machine's."""


@dataclass(frozen=True)
class Head:
    """A checkpoint with all signatures under it."""

    checkpoint: Checkpoint
    note: str
    witnesses: tuple[Witnessed, ...]

    @property
    def size(self) -> int:
        """Entries in it, everybody's."""
        return self.checkpoint.size

    @property
    def root(self) -> str:
        """As the checkpoint spells it."""
        return encode(bytes(self.checkpoint.root))

    def document(self) -> dict[str, Any]:
        """For the API."""
        return {
            "size": self.size,
            "root": self.root,
            "at": self.checkpoint.at.isoformat(),
            "checkpoint": self.note,
            "key": str(log.vkey()),
            "witnesses": [
                {"name": one.name, "key": one.key, "at": one.at.isoformat(), "own": one.own}
                for one in self.witnesses
            ],
        }


def head(tenant: Tenant, *, holding: int = 0) -> Head | None:
    """The newest head of at least ``holding`` entries: one that the tenant's witnesses signed, if any did.

    Heads come every second and witnesses sign every half minute, so the newest of all is rarely the best.
    """
    own = _machine(tenant)
    found = _signed_by([own], holding) if own else None
    found = found or _signed_by([OUTSIDE], holding) or proofs.latest()
    return _head(found, own) if found and found.size >= holding else None


def current(tenant: Tenant, *, holding: int = 0) -> Head | None:
    """The head to go by: of ``holding`` entries if there are so many, and of all the tenant's but the latest.

    A witness that has stopped signing must not hide what came since: then it is a head without its signature.
    """
    due = _due(tenant)
    found = head(tenant, holding=max(holding, due))
    return found or (head(tenant, holding=due) if holding > due else None)


def of_size(tenant: Tenant, size: int) -> Head | None:
    """The head of just this size, if the log ever signed one."""
    found = Checkpoint.objects.filter(size=size).first()
    return _head(found, _machine(tenant)) if found else None


def _due(tenant: Tenant) -> int:
    """The size of the tree that holds all the tenant's entries that witnesses have had time for."""
    rows = Entry.objects.filter(tenant_id=tenant.pk, leaf__isnull=False, at__lte=timezone.now() - PATIENCE)
    places = rows.order_by("-pk").values_list("leaf__index", flat=True)[:_NEWEST]
    return max(places, default=-1) + 1


def _machine(tenant: Tenant) -> str:
    runtime = present_runtime(tenant)
    return str(runtime.pk) if runtime else ""


def _signed_by(targets: list[str], holding: int) -> Checkpoint | None:
    signed = Cosignature.objects.filter(
        checkpoint__size__gte=holding, witness__target__in=targets, witness__retired_at=None
    )
    found = signed.select_related("checkpoint").order_by("-checkpoint__size").first()
    return found.checkpoint if found else None


def _head(checkpoint: Checkpoint, own: str) -> Head:
    # Other tenants' machines sign too; their names are not for this one.
    mine = Cosignature.objects.filter(checkpoint=checkpoint, witness__target__in={OUTSIDE, own})
    rows = list(mine.select_related("witness").order_by("-witness__target", "witness__name"))
    note = Note.parse(checkpoint.note).signed_also(*(row.line for row in rows)).to_text()
    return Head(checkpoint, note, tuple(_witnessed(row, own) for row in rows))


def _witnessed(row: Cosignature, own: str) -> Witnessed:
    witness = row.witness
    return Witnessed(witness.name, witness.vkey, row.signed_at, own=bool(own) and witness.target == own)
