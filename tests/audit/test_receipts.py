"""Which head a receipt is proved in, and whose signatures stand under it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from audit import log, proofs
from audit.models import Checkpoint, Cosignature, Witness
from protocol.checkpoints import cosign
from protocol.notes import COSIGNATURE_V1, MAX_SIGNATURES, Note, VerifierKey, new_key
from protocol.receipts import check
from tests.audit.conftest import write

pytestmark = pytest.mark.django_db(transaction=True)


def cosigned(checkpoint: Checkpoint, name: str, tenant: UUID | None = None) -> VerifierKey:
    """Have a new witness sign this checkpoint: one outside, or a tenant's machine."""
    seed, vkey = new_key(name, COSIGNATURE_V1)
    line = cosign(checkpoint.note, name, seed, 1_700_000_000)
    about: Any = {"target": name, "tenant_id": tenant} if tenant else {"url": "https://example.org/"}
    witness = Witness.objects.create(name=name, vkey=str(vkey), **about)
    Cosignature.objects.create(
        witness=witness,
        checkpoint=checkpoint,
        line=line,
        signed_at=datetime.fromtimestamp(1_700_000_000, UTC),
    )
    return vkey


def test_a_receipt_is_proved_in_the_newest_head_that_witnesses_signed(sequence: Callable[[], int]) -> None:
    """And carries their signatures, which its holder checks with their keys."""
    (entry,) = write()
    sequence()
    head = Checkpoint.objects.get()
    keys = [cosigned(head, "a.example/witness"), cosigned(head, "b.example/witness")]
    (later,) = write()
    sequence()
    receipt = proofs.receipt(entry)
    assert receipt is not None
    checked = check(receipt, log.vkey(), keys)
    assert checked.size == 1
    assert set(checked.cosigned) == {"a.example/witness", "b.example/witness"}
    newer = proofs.receipt(later)
    assert newer is not None
    assert check(newer, log.vkey()).size == 2


def test_a_head_can_be_chosen(sequence: Callable[[], int]) -> None:
    (entry,) = write()
    sequence()
    old = Checkpoint.objects.get()
    (later,) = write()
    sequence()
    receipt = proofs.receipt(entry, checkpoint=old)
    assert receipt is not None
    assert check(receipt, log.vkey()).size == 1
    assert proofs.receipt(later, checkpoint=old) is None


def signers(note: str) -> list[str]:
    return [one.name for one in Note.parse(note).signatures if one.name != log.vkey().name]


def test_a_note_names_witnesses_outside_and_ones_own_machine(sequence: Callable[[], int]) -> None:
    """No other machine; those outside stand first, whatever their names."""
    write()
    sequence()
    head, mine = Checkpoint.objects.get(), uuid4()
    cosigned(head, "0-other.machine", uuid4())
    cosigned(head, "1-my.machine", mine)
    cosigned(head, "z.example/witness")
    assert signers(proofs.note_of(head)) == ["z.example/witness"]
    assert signers(proofs.note_of(head, proofs.witnesses_about(mine))) == [
        "z.example/witness",
        "1-my.machine",
    ]


def test_many_machines_push_no_outside_witness_out(sequence: Callable[[], int]) -> None:
    """A note has a hundred signatures at most; those of machines are the ones to go."""
    write()
    sequence()
    head = Checkpoint.objects.get()
    for number in range(MAX_SIGNATURES + 5):
        cosigned(head, f"{number:03}.machine", uuid4())
    cosigned(head, "z.example/witness")
    names = signers(proofs.note_of(head, Witness.objects.all()))
    assert (len(names), names[0]) == (MAX_SIGNATURES - 1, "z.example/witness")


def test_a_head_that_only_others_machines_signed_is_not_preferred(sequence: Callable[[], int]) -> None:
    """Its signatures would not be shown, so it is no better than a newer head."""
    (entry,) = write()
    sequence()
    cosigned(Checkpoint.objects.get(), "other.machine", uuid4())
    write()
    sequence()
    receipt = proofs.receipt(entry)
    assert receipt is not None
    assert check(receipt, log.vkey()).size == 2
