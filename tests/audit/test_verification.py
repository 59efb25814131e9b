"""What the verification reads, in what pieces, and what its command says."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from audit import log, proofs
from audit.models import Entry, Leaf
from audit.search import Filters, catch_up, search
from audit.sequencer import loop
from audit.verification import Findings, verify
from audit.verification import chunk as chunks
from audit.verification.chunk import Result, Task
from audit.verification.entries import Pass, check_rows
from audit.verification.rows import rows
from protocol import checkpoints, merkle
from tests.audit.conftest import triggers_down, write
from tests.audit.tampering import flipped, tamper

LEAVES = [merkle.leaf_hash(str(number).encode()) for number in range(1500)]


def command(*arguments: str) -> tuple[str, str]:
    """What it prints, and what it fails with."""
    out = StringIO()
    try:
        call_command("audit_verify", *arguments, stdout=out)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), ""


@given(st.integers(1, len(LEAVES)), st.sets(st.integers(1, len(LEAVES)), max_size=5))
def test_a_chunk_knows_the_root_at_each_size(end: int, sizes: set[int]) -> None:
    """Inside a tile, at its end, and at the end of all."""
    result = Result(Task(0, end, 0, frozenset()))
    wanted = frozenset(size for size in sizes if size <= end) | {end}
    roots = chunks._fold(LEAVES[:end], wanted, result)
    assert {size: merkle.fold(hashes) for size, hashes in result.frontiers.items()} == {
        size: merkle.root(LEAVES[:size]) for size in wanted
    }
    assert roots == [merkle.root(LEAVES[at : at + 256]) for at in range(0, end // 256 * 256, 256)]
    assert merkle.fold(result.whole) == merkle.root(LEAVES[:end])


def row(index: int, entry: int | None = None, at: int = 50) -> tuple[object, ...]:
    """As the database gives it."""
    when = f"1970-01-01T00:00:00.{at:06}+00:00"
    event = {
        "action": "a.b",
        "actor": {"id": "1", "kind": "user"},
        "at": when,
        "request": "",
        "target": {"id": "", "type": ""},
        "tenant": None,
    }
    raw = json.dumps(event).encode()
    number = index if entry is None else entry
    return index, merkle.leaf_hash(raw), number, raw, at, None, "a.b", "user", "1", "", "", ""


STRANGE = [
    "[" * 50_000,
    json.dumps(dict(json.loads(str(row(0)[3], "utf-8")), tenant=5)),  # type: ignore[call-overload]
    json.dumps(dict(json.loads(str(row(0)[3], "utf-8")), tenant=["x"])),  # type: ignore[call-overload]
    "[1]",
    "null",
    '{"at":"1970-01-01T00:00:00","action":{},"actor":{"kind":{},"id":[]},"target":3,"tenant":null}',
    '{"data":' + '{"a":' * 5000 + "1" + "}" * 5001,
]


def checked(*given: tuple[object, ...], end: int, passes: tuple[Pass, ...] = ()) -> dict[str, int]:
    found = Findings()
    assert len(check_rows(given, 0, end, passes, 0, found)) >= end
    return dict(found.counts)


def test_gaps_anywhere_are_found() -> None:
    """At the start, in the middle and at the end, once each, however wide."""
    assert checked(row(0), row(1), end=2) == {}
    assert checked(row(1), end=2) == {"leaf_gap": 1}
    assert checked(row(0), row(5), end=6) == {"leaf_gap": 1}
    assert checked(row(0), end=9) == {"leaf_gap": 1}
    assert checked(end=9) == {"leaf_gap": 1}


def test_the_order_counts_within_a_pass_only() -> None:
    """A late committer of one pass has a smaller number than the entries of the pass before."""
    given = (row(0, 5), row(1, 7), row(2, 6))
    assert checked(*given, end=3, passes=(Pass(2, 0, 99), Pass(3, 0, 99))) == {}
    assert checked(*given, end=3, passes=(Pass(3, 0, 99),)) == {"leaf_order": 1}


@pytest.mark.parametrize(
    ("at", "names"), [(9, {"time_wrong": 1}), (10, {}), (20, {}), (21, {"time_wrong": 1})]
)
def test_times_lie_within_their_pass(at: int, names: dict[str, int]) -> None:
    assert checked(row(0, at=at), end=1, passes=(Pass(1, 10, 20),)) == names


@pytest.mark.parametrize("raw", STRANGE)
def test_a_text_that_is_no_event_is_a_finding(raw: str) -> None:
    """Whatever stands there, the verification goes on to the next row."""
    data = raw.encode()
    bad = (0, merkle.leaf_hash(data), 0, data, 50, None, "a.b", "user", "1", "", "", "")
    assert checked(bad, row(1), end=2) == {"column_differs": 1}


@pytest.mark.parametrize("raw", STRANGE)
@pytest.mark.django_db(transaction=True)
def test_a_text_that_is_no_event_ends_neither_index_nor_search(raw: str) -> None:
    """It is indexed by its columns alone, and those behind it as ever."""
    with triggers_down():
        Entry.objects.create(at=timezone.now(), action="odd.one", actor_kind="system", actor_id="", event=raw)
    write(1)
    call_command("sequencer", "--once", stdout=StringIO())
    search(Filters(text="thing"))
    assert catch_up() == len(Leaf.objects.all()) > 0
    assert [one.action for one in search(Filters(text="thing")).entries] == ["thing.done"]
    assert [one.action for one in search(Filters(action="odd.one")).entries] == ["odd.one"]
    assert "column_differs" in verify().findings.counts


def test_nothing_in_the_index_ends_the_sequencer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise RecursionError

    monkeypatch.setattr(loop, "catch_up", broken)
    assert loop._index() is False


@pytest.mark.parametrize(
    "column",
    ["at", "action", "actor_kind", "actor_id", "tenant_id", "target_type", "target_id", "request_id"],
)
@pytest.mark.django_db(transaction=True)
def test_each_column_is_compared_with_the_text(column: str) -> None:
    write(2)
    call_command("sequencer", "--once", stdout=StringIO())
    other = {"at": "2001-02-03 04:05:06+00:00", "tenant_id": "11111111111141118111111111111111"}.get(
        column, "x"
    )
    tamper(f"UPDATE audit_entry SET {column} = %s", parameters=(other,))
    report = verify()
    assert report.findings.counts == {"column_differs": 2}
    assert all(one.where.endswith(f": {column}") for one in report.findings.kept)


@pytest.mark.django_db(transaction=True)
def test_both_engines_give_the_same_rows() -> None:
    """Text as the bytes that were hashed, times to the microsecond, the tenant in hex."""
    write(3)
    call_command("sequencer", "--once", stdout=StringIO())
    for got, leaf in zip(rows(0, 3), Leaf.objects.select_related("entry"), strict=True):
        index, hash_, entry, event, at, tenant, *texts = got
        assert (index, bytes(hash_), entry) == (leaf.index, bytes(leaf.hash), leaf.entry_id)
        assert merkle.leaf_hash(event) == bytes(leaf.hash)
        assert at == round(leaf.entry.at.timestamp() * 1_000_000)
        assert (tenant, texts) == (None, ["thing.done", "command", "test", "thing", leaf.entry.target_id, ""])


@pytest.mark.django_db(transaction=True)
def test_the_command_says_what_it_looked_at() -> None:
    write(5)
    call_command("sequencer", "--once", stdout=StringIO())
    said, failure = command()
    assert failure == ""
    assert "5 leaves from 0 on, 1 checkpoints, 0 cosignatures, 1 roots from outside" in said
    assert "Nothing was found." in said


@pytest.mark.django_db(transaction=True)
def test_the_command_fails_and_names_what_it_found() -> None:
    """For people, and as JSON for programs."""
    write(5)
    call_command("sequencer", "--once", stdout=StringIO())
    tamper("UPDATE audit_entry SET action = 'x' WHERE id = (SELECT min(id) FROM audit_entry)")
    said, failure = command()
    assert "column_differs: a column does not say what the entry's text says (1)" in said
    assert "not as it was written" in failure
    said, failure = command("--json")
    document = json.loads(said)
    assert failure
    assert (document["whole"], document["counts"]) == (False, {"column_differs": 1})
    assert document["findings"][0]["name"] == "column_differs"


@pytest.mark.django_db(transaction=True)
def test_the_command_takes_checkpoints_that_somebody_kept(tmp_path: Path) -> None:
    """The true one passes; one of another root, a larger one, and one that the log did not sign do not."""
    write(5)
    call_command("sequencer", "--once", stdout=StringIO())
    head = proofs.latest()
    assert head is not None
    name, root = log.vkey().name, bytes(head.root)

    def signed(size: int, root: bytes, seed: bytes = settings.LOG_KEY) -> str:
        return checkpoints.signed(checkpoints.Checkpoint(name, size, root), seed, name)

    given = {
        "": head.note,
        "forked": signed(5, flipped(root)),
        "rolled_back": signed(6, root),
        "signature_wrong": signed(5, root, bytes(32)),
    }
    for finding, note in given.items():
        path = tmp_path / "kept"
        path.write_text(note)
        said, failure = command("--kept", str(path))
        assert bool(failure) == bool(finding)
        assert finding in said


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [["--since", "-1"], ["--processes", "0"], ["--kept", "/nowhere"]])
def test_the_command_refuses_what_makes_no_sense(arguments: list[str]) -> None:
    assert command(*arguments)[1]


@pytest.mark.django_db(transaction=True)
def test_a_broken_memory_is_told() -> None:
    write(1)
    call_command("sequencer", "--once", stdout=StringIO())
    (settings.SEQUENCER_DIR / "signed.json").write_text("{}")
    assert set(verify(memory=settings.SEQUENCER_DIR).findings.counts) == {"memory_unreadable"}


MANY = 2 * chunks.CHUNK + 300


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_record_of_several_chunks(processes: int) -> None:
    """Whole; from a later chunk on; and with one bit flipped in the second of three."""
    call_command("sequencer", "--once", stdout=StringIO())
    one = write(1)[0]
    fields = ("at", "action", "actor_kind", "actor_id", "target_type", "target_id", "request_id", "event")
    same = {name: getattr(one, name) for name in fields}
    Entry.objects.bulk_create((Entry(**same) for _ in range(MANY - 1)), batch_size=2000)
    call_command("sequencer", "--once", stdout=StringIO())
    report = verify(memory=settings.SEQUENCER_DIR, processes=processes)
    assert (report.whole, report.leaves, report.checkpoints) == (True, MANY, -(-MANY // 5000))
    report = verify(since=chunks.CHUNK + 7, memory=settings.SEQUENCER_DIR, processes=processes)
    assert (report.whole, report.first, report.leaves) == (True, chunks.CHUNK, MANY - chunks.CHUNK)
    hash_ = bytes(Leaf.objects.get(index=chunks.CHUNK + 9).hash)
    tamper(
        'UPDATE audit_leaf SET hash = %s WHERE "index" = %s',
        parameters=(flipped(hash_), chunks.CHUNK + 9),
    )
    names = {"entry_changed", "tile_wrong", "checkpoint_wrong", "forked"}
    assert set(verify(memory=settings.SEQUENCER_DIR, processes=processes).findings.counts) == names
