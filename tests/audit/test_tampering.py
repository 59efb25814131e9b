"""Every way to change the record behind its back, as the database's superuser; each named by what finds it.

The triggers are down while it happens and up again afterwards: what finds it must be the tree, not they.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from audit import log, proofs, triggers
from audit.models import Checkpoint, Cosignature, Entry, Leaf, SequencerFence, Tile, WitnessRefusal
from audit.sequencer import TroubleError, sequence_once
from audit.verification import Report, run, verify
from audit.witnesses import refusal_acknowledge, refused, witness_register, witness_retire
from protocol import checkpoints, merkle
from protocol.notes import COSIGNATURE_V1, new_key
from protocol.receipts import Proof, Receipt, ReceiptError, check
from protocol.witnessing import Refused, Request, State, judge
from tests.audit.conftest import TESTER, triggers_down, write
from tests.audit.postgresql import own_database
from tests.audit.tampering import backed_up, flipped, switched, tamper

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND = 270, 10
"""Entries of the first pass (a whole tile and more) and of the second."""
SIZE = FIRST + SECOND


def found(**more: object) -> set[str]:
    """The names of all findings."""
    return set(look(**more).findings.counts)


def look(**more: object) -> Report:
    return verify(**{"memory": settings.SEQUENCER_DIR, **more})  # type: ignore[arg-type]


@pytest.fixture
def log_of(sequence: Callable[[], int]) -> None:
    """Two checkpoints over a tile and more."""
    write(FIRST)
    sequence()
    write(SECOND)
    sequence()


def entry(index: int) -> int:
    """The id of the entry at this leaf."""
    return Leaf.objects.values_list("entry_id", flat=True).get(index=index)


def test_an_untouched_record_is_whole(log_of: None) -> None:
    report = look()
    assert report.whole, report.findings
    assert (report.leaves, report.checkpoints, report.claims) == (SIZE, 2, 1)


def test_an_empty_record_is_whole() -> None:
    assert look().whole


SOME = 'id = (SELECT entry_id FROM audit_leaf WHERE "index" = 7)'
OTHER = 'id = (SELECT entry_id FROM audit_leaf WHERE "index" = 8)'
IN_SQL: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "the text of one entry": (
        (f"UPDATE audit_entry SET event = replace(event, 'thing.done', 'thing.gone') WHERE {SOME}",),
        {"entry_changed"},
    ),
    "the text and the columns of one entry": (
        (
            "UPDATE audit_entry SET event = replace(event, 'thing.done', 'thing.gone'), action = 'thing.gone' "
            f"WHERE {SOME}",
        ),
        {"entry_changed"},
    ),
    "a column that only indexes": (
        (f"UPDATE audit_entry SET action = 'thing.gone' WHERE {SOME}",),
        {"column_differs"},
    ),
    "whose entry it is": (
        (f"UPDATE audit_entry SET tenant_id = '11111111111141118111111111111111' WHERE {SOME}",),
        {"column_differs"},
    ),
    "the text of one entry is emptied": (
        (f"UPDATE audit_entry SET event = '' WHERE {SOME}",),
        {"entry_changed"},
    ),
    "one entry is deleted": ((f"DELETE FROM audit_entry WHERE {SOME}",), {"entry_missing"}),
    "one entry and its leaf are deleted": (
        (f"DELETE FROM audit_entry WHERE {SOME}", 'DELETE FROM audit_leaf WHERE "index" = 7'),
        {"leaf_gap", "tile_wrong", "checkpoint_wrong", "forked"},
    ),
    "a leaf is deleted": (
        ('DELETE FROM audit_leaf WHERE "index" = 7',),
        {"leaf_gap", "tile_wrong", "checkpoint_wrong", "forked", "entry_foreign"},
    ),
    "the last leaf is deleted": (
        (f'DELETE FROM audit_leaf WHERE "index" = {SIZE - 1}',),
        {"leaf_gap", "rolled_back", "entry_foreign"},
    ),
    "a gap in the numbers": (
        (f'UPDATE audit_leaf SET "index" = {SIZE + 5} WHERE "index" = {SIZE - 1}',),
        {"leaf_gap", "checkpoint_wrong", "checkpoint_missing", "forked"},
    ),
    "two entries change places": (
        (
            'UPDATE audit_leaf SET entry_id = -1 WHERE "index" = 7',
            'UPDATE audit_leaf SET entry_id = (SELECT entry_id - 1 FROM audit_leaf WHERE "index" = 8) '
            'WHERE "index" = 8',
            'UPDATE audit_leaf SET entry_id = (SELECT entry_id + 1 FROM audit_leaf WHERE "index" = 8) '
            'WHERE "index" = 7',
        ),
        {"entry_changed", "leaf_order"},
    ),
    "two leaves change places": (
        (
            'UPDATE audit_leaf SET "index" = 100000 WHERE "index" = 7',
            'UPDATE audit_leaf SET "index" = 7 WHERE "index" = 8',
            'UPDATE audit_leaf SET "index" = 8 WHERE "index" = 100000',
        ),
        {"leaf_order", "tile_wrong", "checkpoint_wrong", "forked"},
    ),
    "an entry is put in beside the log": (
        (
            "INSERT INTO audit_entry (id, at, action, actor_kind, actor_id, target_type, target_id, request_id, event) "
            "SELECT -5, '2020-01-01 00:00:00+00:00', action, actor_kind, actor_id, target_type, target_id, "
            f"request_id, event FROM audit_entry WHERE {SOME}",
        ),
        {"entry_foreign"},
    ),
    "a leaf is put on the end": (
        (
            'INSERT INTO audit_leaf ("index", entry_id, hash) '
            f'SELECT {SIZE}, 1000000000, hash FROM audit_leaf WHERE "index" = 7',
        ),
        {"entry_missing", "checkpoint_missing"},
    ),
    "all entries are emptied out": (("DELETE FROM audit_entry",), {"entry_missing"}),
    "all that was signed is emptied out": (
        (
            "DELETE FROM audit_checkpoint",
            "DELETE FROM audit_tile",
            "DELETE FROM audit_leaf",
            "DELETE FROM audit_entry",
        ),
        {"rolled_back"},
    ),
    "a tile is deleted": (("DELETE FROM audit_tile",), {"tile_wrong"}),
    "the newest checkpoint is deleted": (
        (f"DELETE FROM audit_checkpoint WHERE size = {SIZE}",),
        {"checkpoint_missing"},
    ),
    "rollback to the older checkpoint": (
        (
            f"DELETE FROM audit_checkpoint WHERE size = {SIZE}",
            f'DELETE FROM audit_entry WHERE id IN (SELECT entry_id FROM audit_leaf WHERE "index" >= {FIRST})',
            f'DELETE FROM audit_leaf WHERE "index" >= {FIRST}',
        ),
        {"rolled_back"},
    ),
    "an older root under the newest size": (
        (
            f"UPDATE audit_checkpoint SET root = (SELECT root FROM audit_checkpoint WHERE size = {FIRST}) "
            f"WHERE size = {SIZE}",
        ),
        {"checkpoint_wrong"},
    ),
}
if connection.vendor == "postgresql":
    IN_SQL |= {
        "TRUNCATE of the entries": (("TRUNCATE audit_entry CASCADE",), {"entry_missing"}),
        "TRUNCATE of all": (
            ("TRUNCATE audit_entry, audit_leaf, audit_tile, audit_checkpoint CASCADE",),
            {"rolled_back"},
        ),
        "replica mode, with the triggers gone": (
            ("SET LOCAL session_replication_role = replica", f"DELETE FROM audit_entry WHERE {SOME}"),
            {"entry_missing"},
        ),
    }


@pytest.mark.parametrize("what", IN_SQL)
def test_what_is_done_in_sql_is_found(log_of: None, what: str) -> None:
    """By just these names, and by no trigger."""
    statements, names = IN_SQL[what]
    tamper(*statements)
    assert found() == names


BITS = {
    "audit_entry.event": {"entry_changed"},
    "audit_leaf.hash": {"entry_changed", "tile_wrong", "checkpoint_wrong", "forked"},
    "audit_tile.data": {"tile_wrong"},
    "audit_tile.root": {"tile_wrong"},
    "audit_checkpoint.root": {"checkpoint_wrong"},
    "audit_checkpoint.note": {"signature_wrong"},
}


@pytest.mark.parametrize("bit", [0, 77, 255])
@pytest.mark.parametrize("place", BITS)
def test_one_flipped_bit_is_found(log_of: None, place: str, bit: int) -> None:
    """In any of the stored bytes."""
    table, column = place.split(".")
    model = {one._meta.db_table: one for one in (Entry, Leaf, Tile, Checkpoint)}[table]
    row = model._default_manager.order_by("pk").first()
    assert row is not None
    value = getattr(row, column)
    changed: object = flipped(bytes(value), bit) if not isinstance(value, str) else text_flipped(value, bit)
    key = model._meta.pk.column
    tamper(f'UPDATE {table} SET {column} = %s WHERE "{key}" = %s', parameters=(changed, row.pk))
    assert found() == BITS[place]


def text_flipped(text: str, bit: int) -> str:
    """One bit, such that it stays text."""
    at = bit % len(text)
    return text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]


def test_a_changed_time_is_found(log_of: None) -> None:
    """In the column alone; and where text, leaf and column agree, by the tree."""
    one = Entry.objects.get(pk=entry(7))
    earlier = one.at - timedelta(days=1)
    tamper("UPDATE audit_entry SET at = %s WHERE id = %s", parameters=(earlier, one.pk))
    assert found() == {"column_differs"}
    text = one.event.replace(
        one.at.isoformat(timespec="microseconds"), earlier.isoformat(timespec="microseconds")
    )
    assert text != one.event
    tamper("UPDATE audit_entry SET event = %s WHERE id = %s", parameters=(text, one.pk))
    assert found() == {"entry_changed"}
    leaf = merkle.leaf_hash(text.encode())
    tamper("UPDATE audit_leaf SET hash = %s WHERE entry_id = %s", parameters=(leaf, one.pk))
    assert found() == {"tile_wrong", "checkpoint_wrong", "forked"}


def test_an_entry_dated_back_is_found_though_it_was_sequenced(
    log_of: None, sequence: Callable[[], int]
) -> None:
    """The sequencer takes what it finds; but an entry cannot be much older than the checkpoint before it."""
    one = Entry.objects.get(pk=entry(7))
    earlier = one.at - timedelta(days=1)
    text = one.event.replace(
        one.at.isoformat(timespec="microseconds"), earlier.isoformat(timespec="microseconds")
    )
    same = {
        name: getattr(one, name)
        for name in ("action", "actor_kind", "actor_id", "target_type", "target_id", "request_id")
    }
    with triggers_down():
        Entry.objects.create(**dict(same, at=earlier, event=text))
    sequence()
    assert found() == {"time_wrong"}


def test_an_entry_that_waits_is_told(log_of: None) -> None:
    """After the newest leaf: the sequencer stands still, or somebody keeps it from seeing."""
    now = timezone.now() - timedelta(minutes=5)
    Entry.objects.create(at=now, action="a.b", actor_kind="system", actor_id="", event="{}")
    assert found() == {"unsequenced"}


def test_a_dropped_trigger_is_found(log_of: None) -> None:
    triggers.remove(connection, "audit_leaf")
    names = found()
    triggers.install(connection)
    assert names == {"trigger_missing"}


def test_a_stretch_that_only_counts_as_archived_is_found(log_of: None) -> None:
    """A row that says so lets bodies be emptied; but no entry of the log tells of that archive."""
    tamper(
        'INSERT INTO audit_segment ("first", "end", checkpoint, folder, digest, at) '
        f"VALUES (0, 256, {SIZE}, 'x', 'x', '2026-01-01 00:00:00+00:00')",
        "UPDATE audit_entry SET event = ''"
        ' WHERE id IN (SELECT entry_id FROM audit_leaf WHERE "index" < 256)',
    )
    assert found() == {"segment_foreign"}


@pytest.fixture
def elsewhere(django_db_blocker: object) -> Iterator[None]:
    """A database that may be dropped and restored as a whole."""
    if connection.vendor == "sqlite":
        yield
        return
    name = str(connection.settings_dict["NAME"])
    connection.close()
    with own_database(name) as own, switched(own):
        yield


def kept_now(name: str = "kept by a tenant") -> list[tuple[str, str]]:
    head = proofs.latest()
    assert head is not None
    return [(name, head.note)]


def test_a_restored_older_backup_is_found(
    elsewhere: None, sequence: Callable[[], int], tmp_path: Path
) -> None:
    """By the sequencer's memory, by whoever kept a checkpoint, and by the sequencer, which signs nothing more."""
    write(FIRST)
    sequence()
    restore = backed_up(tmp_path / "backup")
    write(SECOND)
    sequence()
    kept = kept_now()
    assert found(kept=kept) == set()
    restore()
    assert found() == {"rolled_back"}
    assert found(memory=None, kept=kept) == {"rolled_back"}
    with pytest.raises(TroubleError):
        sequence()
    assert found(memory=None) == set(), "the backup itself is whole: only what stands outside can tell"


@pytest.fixture
def thief(tmp_path: Path) -> Callable[[str], None]:
    """Has the log's key: changes an entry, and makes all of the tree anew so that it fits."""

    def fork(said: str) -> None:
        one = Entry.objects.get(pk=entry(3))
        tamper(
            "DELETE FROM audit_cosignature" if not Cosignature.objects.exists() else "SELECT 1",
            "DELETE FROM audit_checkpoint" if not Cosignature.objects.exists() else "SELECT 1",
            "DELETE FROM audit_tile",
            "DELETE FROM audit_leaf",
        )
        tamper(
            "UPDATE audit_entry SET event = %s, action = %s WHERE id = %s",
            parameters=(one.event.replace(one.action, said), said, one.pk),
        )
        sequence_once(folder=tmp_path / "thief")

    return fork


def test_a_fork_by_a_stolen_key_is_found_from_outside_only(
    log_of: None, thief: Callable[[str], None], sequence: Callable[[], int]
) -> None:
    """The forged tree is whole in itself. Memory, kept checkpoints and witnesses each tell it."""
    head = proofs.latest()
    assert head is not None
    kept, state = kept_now(), State(head.size, bytes(head.root))
    thief("thing.gone")
    assert found(memory=None) == set(), "nothing in the database can tell"
    assert found() == {"forked"}
    assert found(memory=None, kept=kept) == {"forked"}
    forged = proofs.latest()
    assert forged is not None
    with pytest.raises(Refused) as caught:
        judge(state, Request(state.size, (), forged.note), log.vkey())
    assert caught.value.reason == "forked"
    write(3)
    with pytest.raises(TroubleError):
        sequence()


def test_a_fork_that_has_grown_is_refused_by_witnesses(
    log_of: None, thief: Callable[[str], None], tmp_path: Path
) -> None:
    """Whatever proof the thief makes, the older tree is not its beginning."""
    head = proofs.latest()
    assert head is not None
    state = State(head.size, bytes(head.root))
    thief("thing.gone")
    write(5)
    sequence_once(folder=tmp_path / "thief")
    forged = proofs.latest()
    assert forged is not None
    proof = tuple(proofs.consistency(state.size, forged.size))
    with pytest.raises(Refused) as caught:
        judge(state, Request(state.size, proof, forged.note), log.vkey())
    assert caught.value.reason == "proof"
    assert found() == {"forked"}


def test_a_cosignature_under_another_checkpoint_is_found(log_of: None) -> None:
    """A thief who signs the checkpoint anew cannot sign for the witness."""
    head = proofs.latest()
    assert head is not None
    seed, vkey = new_key("witness.example", COSIGNATURE_V1)
    now = timezone.now()
    witness = witness_register(actor=TESTER, vkey=str(vkey), url="https://witness.example.org/")
    line = checkpoints.cosign(head.note, vkey.name, seed, int(now.timestamp()))
    Cosignature.objects.create(witness=witness, checkpoint=head, line=line, signed_at=now)
    report = look()
    assert (report.findings.counts, report.cosignatures) == ({}, 1)
    forged = checkpoints.Checkpoint(log.vkey().name, head.size, flipped(bytes(head.root)))
    note = checkpoints.signed(forged, settings.LOG_KEY, log.vkey().name)
    tamper(
        "UPDATE audit_checkpoint SET note = %s, root = %s WHERE size = %s",
        parameters=(note, forged.root, head.size),
    )
    assert found() == {"checkpoint_wrong", "cosignature_wrong"}


@pytest.fixture
def vouched(log_of: None, sequence: Callable[[], int]) -> WitnessRefusal:
    """Two witnesses, of which one is retired, a refusal that somebody acknowledged, and one that is open."""
    made = []
    for name in ("one.example", "two.example"):
        key = str(new_key(name, COSIGNATURE_V1)[1])
        made.append(witness_register(actor=TESTER, vkey=key, url=f"https://{name}.org/"))
    assert refused(made[0], proofs.latest(), "malformed", 3)
    refusal = WitnessRefusal.objects.get()
    refusal_acknowledge(actor=TESTER, refusal=refusal, reason="It was an old image.")
    assert refused(made[0], None, "origin", 0)
    witness_retire(actor=TESTER, witness=made[1], reason="It is no more.")
    sequence()
    assert found() == set()
    return WitnessRefusal.objects.get(reason="origin")


VOUCHING = {
    "another key": "UPDATE audit_witness SET vkey = 'x' WHERE retired_at IS NULL",
    "another URL": "UPDATE audit_witness SET url = 'https://x.example/' WHERE retired_at IS NULL",
    "another tenant": "UPDATE audit_witness SET tenant_id = '11111111111141118111111111111111'",
    "retired": "UPDATE audit_witness SET retired_at = added_at WHERE retired_at IS NULL",
    "retired no more": "UPDATE audit_witness SET retired_at = NULL",
    "gone": "DELETE FROM audit_witness WHERE retired_at IS NOT NULL",
    "another reason": "UPDATE audit_witnessrefusal SET reason = 'stale' WHERE reason = 'origin'",
    "refusal gone": "DELETE FROM audit_witnessrefusal WHERE reason = 'origin'",
    "acknowledgement gone": "DELETE FROM audit_refusalacknowledgement",
    "acknowledged by another": "UPDATE audit_refusalacknowledgement SET by = '1'",
    "acknowledged": "INSERT INTO audit_refusalacknowledgement (refusal_id, by, why, at) "
    "SELECT id, '1', 'x', at FROM audit_witnessrefusal WHERE reason = 'origin'",
    "refused": "INSERT INTO audit_witnessrefusal (witness_id, reason, size, at) "
    "SELECT witness_id, 'stale', 1, at FROM audit_witnessrefusal WHERE reason = 'origin'",
}


@pytest.mark.parametrize("what", VOUCHING)
def test_what_witnesses_are_and_said_is_as_the_entries_tell(vouched: WitnessRefusal, what: str) -> None:
    """Web may write these rows; only with the entry that says so."""
    tamper(VOUCHING[what])
    assert found() == {"witness_foreign"}


@pytest.mark.parametrize("off", [timedelta(days=-1), timedelta(0), timedelta(days=9999)])
@pytest.mark.parametrize("pk", [-5, 0, 1])
def test_an_entry_where_the_sequencer_never_looks_is_found(log_of: None, off: timedelta, pk: int) -> None:
    """Whatever its date says."""
    tamper(f"DELETE FROM audit_entry WHERE {SOME}")
    SequencerFence.objects.update(low=Entry.objects.latest("pk").pk)
    number = Leaf.objects.get(index=7).entry_id if pk == 1 else pk
    tamper(f"DELETE FROM audit_leaf WHERE entry_id = {number}")
    given: dict[str, Any] = {"action": "a.b", "actor_kind": "system", "actor_id": "", "event": "{}"}
    with triggers_down():
        Entry(**given, pk=number, at=timezone.now() + off).save(force_insert=True)
    assert "entry_foreign" in found()


def test_an_entry_of_the_future_that_waits_is_told(log_of: None) -> None:
    given: dict[str, Any] = {"action": "a.b", "actor_kind": "system", "actor_id": "", "event": "{}"}
    with triggers_down():
        Entry.objects.create(**dict(given, at=timezone.now() + timedelta(days=9999)))
    assert found() == {"unsequenced"}


@pytest.mark.parametrize("place", ["_check_tree", "check_strays", "check_vouching"])
def test_a_log_that_grows_meanwhile_is_whole(
    log_of: None, sequence: Callable[[], int], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """What is written after the first look is not looked at, wherever in the verification it comes."""
    real = getattr(run, place)

    def grow() -> None:
        try:
            write(300)
            sequence()
        finally:
            connection.close()

    def beset(*given: Any) -> Any:
        writer = Thread(target=grow)
        writer.start()
        writer.join(60)
        return real(*given)

    monkeypatch.setattr(run, place, beset)
    report = look()
    assert (report.whole, report.leaves) == (True, SIZE), report.findings
    assert Leaf.objects.count() == SIZE + 300


def receipt_of(index: int) -> Receipt:
    made = proofs.receipt(Entry.objects.get(pk=entry(index)))
    assert made is not None
    return made


RECEIPTS: dict[str, Callable[[Receipt, Receipt], Receipt]] = {
    "a valid proof for the wrong entry": lambda one, two: Receipt(two.event, one.proof),
    "another index": lambda one, two: Receipt(one.event, replaced(one, index=8)),
    "an index beyond the tree": lambda one, two: Receipt(one.event, replaced(one, index=SIZE)),
    "one hash too few": lambda one, two: Receipt(one.event, replaced(one, hashes=one.proof.hashes[:-1])),
    "one hash too many": lambda one, two: Receipt(
        one.event, replaced(one, hashes=(*one.proof.hashes, bytes(32)))
    ),
    "no hashes": lambda one, two: Receipt(one.event, replaced(one, hashes=())),
    "a hash of 31 bytes": lambda one, two: Receipt(
        one.event, replaced(one, hashes=(one.proof.hashes[0][:31], *one.proof.hashes[1:]))
    ),
    "a hash of 33 bytes": lambda one, two: Receipt(
        one.event, replaced(one, hashes=(one.proof.hashes[0] + b"x", *one.proof.hashes[1:]))
    ),
    "one flipped bit": lambda one, two: Receipt(
        one.event, replaced(one, hashes=(*one.proof.hashes[:-1], flipped(one.proof.hashes[-1])))
    ),
    "hashes in another order": lambda one, two: Receipt(
        one.event, replaced(one, hashes=one.proof.hashes[::-1])
    ),
    "another text": lambda one, two: Receipt(one.event.replace("thing.done", "thing.gone"), one.proof),
    "an older checkpoint": lambda one, two: Receipt(
        one.event, replaced(one, note=Checkpoint.objects.get(size=FIRST).note)
    ),
    "no signature by the log": lambda one, two: Receipt(
        one.event, replaced(one, note=one.proof.note.replace(log.vkey().name, "another.example"))
    ),
}


def replaced(one: Receipt, **more: Any) -> Proof:
    return replace(one.proof, **more)


@pytest.mark.parametrize("what", RECEIPTS)
def test_a_receipt_that_was_tampered_with_is_refused(log_of: None, what: str) -> None:
    """By the verifier that everybody has; the untouched one passes."""
    one, two = receipt_of(7), receipt_of(9)
    assert check(one, log.vkey()).index == 7
    with pytest.raises((ReceiptError, merkle.ProofError)):
        check(RECEIPTS[what](one, two), log.vkey())


def test_what_is_found_stays_short_however_much_is_wrong(log_of: None) -> None:
    """Counted in full, shown in part."""
    tamper("UPDATE audit_entry SET action = 'x'")
    findings = look().findings
    assert findings.counts == {"column_differs": SIZE}
    assert len(findings.kept) == 20
