"""One row for each insert-only table, made as the portal makes it."""

from collections.abc import Callable
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit.context import command
from audit.models import (
    Checkpoint,
    Cosignature,
    Dispute,
    DisputeAcknowledgement,
    Entry,
    Leaf,
    RefusalAcknowledgement,
    Segment,
    Tile,
    Witness,
    WitnessRefusal,
)
from audit.services import record


def _entry() -> Entry:
    with transaction.atomic():
        return record(action="thing.done", actor=command("test"), target=("thing", 1))


def _leaf() -> Leaf:
    return Leaf.objects.create(index=Leaf.objects.count(), entry=_entry(), hash=bytes(32))


def _tile() -> Tile:
    return Tile.objects.create(level=0, index=Tile.objects.count(), data=bytes(8192), root=bytes(32))


def _checkpoint() -> Checkpoint:
    size = Checkpoint.objects.count() + 1
    return Checkpoint.objects.create(size=size, root=bytes(32), note="", at=timezone.now())


def _witness() -> Witness:
    name = f"witness-{Witness.objects.count()}"
    return Witness.objects.create(name=name, vkey=name, url="https://witness.example/")


def _cosignature() -> Cosignature:
    given = {"witness": _witness(), "checkpoint": _checkpoint(), "signed_at": timezone.now()}
    return Cosignature.objects.create(line="", **given)


def _refusal() -> WitnessRefusal:
    return WitnessRefusal.objects.create(witness=_witness(), reason="forked", size=1)


def _acknowledgement() -> RefusalAcknowledgement:
    return RefusalAcknowledgement.objects.create(refusal=_refusal(), by="1")


def _dispute() -> Dispute:
    size = Dispute.objects.count() + 1
    return Dispute.objects.create(tenant_id=UUID(int=1), size=size, root=bytes(32), note="")


def _dispute_acknowledgement() -> DisputeAcknowledgement:
    return DisputeAcknowledgement.objects.create(dispute=_dispute(), by="1")


def _segment() -> Segment:
    first = Segment.objects.count()
    place = {"first": first, "end": first + 1, "checkpoint": first + 1}
    return Segment.objects.create(folder="f", digest="d", at=timezone.now(), **place)


ROWS: dict[str, Callable[[], object]] = {
    "audit_entry": _entry,
    "audit_leaf": _leaf,
    "audit_tile": _tile,
    "audit_checkpoint": _checkpoint,
    "audit_cosignature": _cosignature,
    "audit_witnessrefusal": _refusal,
    "audit_refusalacknowledgement": _acknowledgement,
    "audit_dispute": _dispute,
    "audit_disputeacknowledgement": _dispute_acknowledgement,
    "audit_segment": _segment,
    "audit_witness": _witness,
}


def row_of(table: str) -> None:
    """Add one."""
    ROWS[table]()
