"""The log's signed heads as people see them: how large, when, and who has witnessed them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit import log, proofs
from audit.models import Checkpoint, Cosignature
from portal.secrets import present_runtime
from protocol.notes import Note, encode
from tenants.models import Tenant

OUTSIDE = ""
"""The target of a witness that is nobody's machine."""


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


def of_size(tenant: Tenant, size: int) -> Head | None:
    """The head of just this size, if the log ever signed one."""
    found = Checkpoint.objects.filter(size=size).first()
    return _head(found, _machine(tenant)) if found else None


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
