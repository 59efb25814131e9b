"""The log's signed heads as people see them: how large, when, and who has witnessed them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audit import log, proofs
from audit.models import Checkpoint
from portal.secrets import present_runtime
from protocol.enrolment import runtime_dns_name
from protocol.notes import Note, Signature, encode
from tenants.models import Tenant


@dataclass(frozen=True)
class Witnessed:
    """One cosignature under a head."""

    name: str
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
                {"name": one.name, "at": one.at.isoformat(), "own": one.own} for one in self.witnesses
            ],
        }


def head(tenant: Tenant, *, holding: int = 0) -> Head | None:
    """The newest head of at least ``holding`` entries: one that witnesses signed, if any did.

    Heads come every second and witnesses sign every half minute, so the newest of all is rarely the best.
    """
    newest = proofs.latest()
    if newest is None or newest.size < holding:
        return None
    return _head(tenant, newest)


def of_size(tenant: Tenant, size: int) -> Head | None:
    """The head of just this size, if the log ever signed one."""
    found = Checkpoint.objects.filter(size=size).first()
    return _head(tenant, found) if found else None


def _head(tenant: Tenant, checkpoint: Checkpoint) -> Head:
    runtime = present_runtime(tenant)
    machine = runtime_dns_name(str(runtime.pk)) if runtime else ""
    note = Note.parse(checkpoint.note)
    others = [one for one in note.signatures if one.name != log.vkey().name]
    return Head(checkpoint, note.to_text(), tuple(_witnessed(one, machine) for one in others))


def _witnessed(line: Signature, machine: str) -> Witnessed:
    # A cosignature begins with its time. It was checked before it was stored.
    return Witnessed(
        line.name, datetime.fromtimestamp(int.from_bytes(line.blob[:8], "big"), UTC), line.name == machine
    )
