"""`manage.py audit_status`: how the record is, and an exit code that a monitor understands."""

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from uuid import UUID

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

from audit import disputes, log, proofs, witnesses
from audit.context import command
from audit.models import SequencerFence, Witness
from protocol.checkpoints import Checkpoint, cosign, signed
from protocol.notes import COSIGNATURE_V1, new_key
from tests.audit.rows import row_of

pytestmark = pytest.mark.django_db
TESTER = command("test")
SEED, VKEY = new_key("w.example", COSIGNATURE_V1)


def status() -> tuple[list[str], str]:
    """The lines, and what it exits with; empty if all is well."""
    out = StringIO()
    try:
        call_command("audit_status", stdout=out)
    except CommandError as error:
        return out.getvalue().splitlines(), str(error)
    return out.getvalue().splitlines(), ""


def sign(witness: Witness) -> None:
    newest = proofs.latest()
    assert newest is not None
    line = cosign(newest.note, witness.name, SEED, int(timezone.now().timestamp()))
    witnesses.cosigned(witness, newest, line)


def make_witness() -> Witness:
    return witnesses.witness_register(actor=TESTER, vkey=str(VKEY), url="https://w.example/")


def test_an_empty_record_is_whole() -> None:
    lines, trouble = status()
    assert lines == [
        f"log        {log.vkey().name}",
        "checkpoint none",
        "lag        0 entries, the oldest 0 s old",
    ]
    assert trouble == ""


def test_it_tells_size_lag_and_who_has_signed(sequence: Callable[[], int]) -> None:
    """A witness that has signed, then falls behind and cannot be reached; one that never signed; none retired."""
    witness = make_witness()
    gone = str(new_key("gone.example", COSIGNATURE_V1)[1])
    witnesses.witness_retire(
        actor=TESTER,
        witness=witnesses.witness_register(actor=TESTER, vkey=gone, url="https://gone.example/"),
        reason="It has been switched off.",
    )
    sequence()
    lines, trouble = status()
    assert "witness    w.example: nothing signed yet" in lines
    sign(witness)
    row_of("audit_entry")
    sequence()
    row_of("audit_entry")
    witnesses.not_reached(witness, "no answer within 5 s")
    lines, trouble = status()
    newest = proofs.latest()
    assert newest is not None
    assert f"checkpoint 4 entries, {newest.at:%Y-%m-%d %H:%M:%S} UTC" in lines
    assert any(line.startswith("lag        1 entries, the oldest ") for line in lines)
    assert "witness    w.example: 3 entries, 1 behind; no answer within 5 s" in lines
    assert not [line for line in lines if "gone.example" in line]
    assert trouble == "", "a witness that is away is no trouble while another's word is young"


def test_what_is_wrong_is_told_and_exits_with_1(sequence: Callable[[], int]) -> None:
    """Loud ones first, a witness's refusal with its name, one line each."""
    witness = make_witness()
    sequence()
    assert witnesses.refused(witness, proofs.latest(), "forked", 9)
    key = log.vkey()
    shown = signed(Checkpoint(key.name, 9, b"\1" * 32), settings.LOG_KEY, key.name)
    disputes.dispute(actor=TESTER, tenant_id=UUID(int=1), kept=shown, here=1)
    SequencerFence.objects.update(
        trouble="rolled_back", trouble_words="Less is there.", trouble_at=timezone.now()
    )
    lines, trouble = status()
    told = [line for line in lines if line.startswith(("LOUD", "ALERT"))]
    assert [line.split()[1] for line in told] == ["log_rolled_back:", "witness_refused:", "record_disputed:"]
    assert "the log has forked. (w.example)" in told[1]
    assert "another history of 9 entries" in told[2]
    assert trouble == "3 things are wrong with the record."


def test_silence_is_told(sequence: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """No leaf for a minute, no witness for ten: each is an alert, and none is loud."""
    row_of("audit_entry")
    sequence()
    row_of("audit_entry")
    later = timezone.now() + timedelta(minutes=11)
    monkeypatch.setattr("audit.alerts.timezone.now", lambda: later)
    lines, trouble = status()
    codes = [line.split()[:2] for line in lines if line.startswith(("LOUD", "ALERT"))]
    assert codes == [["ALERT", "sequencer_lag:"], ["ALERT", "no_witness:"]]
    assert trouble == "2 things are wrong with the record."
