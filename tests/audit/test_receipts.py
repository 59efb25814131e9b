"""Which head a receipt is proved in, and whose signatures stand under it."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from audit import log, proofs
from audit.models import Checkpoint, Cosignature, Witness
from protocol.checkpoints import cosign
from protocol.notes import COSIGNATURE_V1, VerifierKey, new_key
from protocol.receipts import check
from tests.audit.conftest import write

pytestmark = pytest.mark.django_db(transaction=True)


def cosigned(checkpoint: Checkpoint, name: str) -> VerifierKey:
    """Have a new witness sign this checkpoint."""
    seed, vkey = new_key(name, COSIGNATURE_V1)
    line = cosign(checkpoint.note, name, seed, 1_700_000_000)
    witness = Witness.objects.create(name=name, vkey=str(vkey), url="https://example.org/")
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
