"""The verifier as people run it: a process of its own, without Django, on files."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.canonical import canonical
from protocol.checkpoints import hash_lines, signed
from protocol.merkle import Frontier
from protocol.notes import encode
from protocol.personal import commitment
from protocol.receipts import Opening
from protocol.tiles import bundle, entries_path, tile_path
from protocol.verify.__main__ import main
from protocol.verify.exports import PART_BYTES, checkpoint_line, entry_line, header_line, verify_export
from protocol.verify.outcome import Keys, VerificationError
from tests.protocol.logs import KEY, ORIGIN, SEED, WITNESS, WITNESS_KEY, Log, log_of

ROOM = Path(__file__).parents[2]
LOG = log_of(700)
KEYS = ["--key", str(KEY), "--witness", str(WITNESS_KEY), "--processes", "1"]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return LOG.export(tmp_path / "export.jsonl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return LOG.folder(tmp_path / "tiles")


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Exit status and what was printed."""
    status = main([*map(str, arguments), *KEYS])
    out = capsys.readouterr()
    return status, out.out + out.err


# As a process


def alone(tmp_path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In a room with nothing but ``protocol``, where Django, PyNaCl and joserfc cannot be imported."""
    (tmp_path / "room").mkdir(exist_ok=True)
    (tmp_path / "room/protocol").symlink_to(ROOM / "protocol")
    blocked = ("django", "nacl", "joserfc", "portal", "audit", "psycopg", "httpx")
    program = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({blocked!r})); sys.argv[0] = 'verify'; "
        "runpy.run_module('protocol.verify', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, *map(str, arguments), "--key", str(KEY), "--processes", "2"]
    return subprocess.run(
        command, cwd=tmp_path / "room", capture_output=True, text=True, timeout=60, check=False
    )


def test_an_export_on_its_own(tmp_path: Path, export: Path) -> None:
    """With two processes and no other library than cryptography."""
    done = alone(tmp_path, "export", export, "--witness", str(WITNESS_KEY))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"verified: 700 entries of {ORIGIN}, size 700, root ")
    assert f"cosigned by {WITNESS} at 2027-01-15T08:00:00+00:00" in done.stdout


def test_a_changed_export_on_its_own(tmp_path: Path, export: Path) -> None:
    """Its status says so, also to a script."""
    export.write_bytes(export.read_bytes().replace(b'\\"n\\":500}', b'\\"n\\":501}'))
    done = alone(tmp_path, "export", export)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "NOT VERIFIED: the entries are not those that the checkpoint signs: their root differs\n"
    )


def test_asked_wrongly(tmp_path: Path) -> None:
    """Neither verified nor not: status 2."""
    assert alone(tmp_path, "export", "missing").returncode == 2


def test_a_key_that_is_none() -> None:
    """The usage says what is wrong with it."""
    with pytest.raises(SystemExit) as stopped:
        main(["export", "x", "--key", "name+00000000+AAAA"])
    assert stopped.value.code == 2


# Exports


def test_an_export_in_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is cut, also within a tile or at each line."""
    export = LOG.export(tmp_path / "export.jsonl")
    for size in (1, 100, 5000, 20_000):
        monkeypatch.setattr("protocol.verify.exports.PART_BYTES", size)
        assert verify_export(export, Keys(KEY, [WITNESS_KEY])).entries == 700
    assert PART_BYTES > 20_000


@pytest.mark.parametrize("spelling", ["ascii", "spaces", "order"])
def test_other_spellings_of_json(tmp_path: Path, spelling: str) -> None:
    """Whoever reads and writes the lines again leaves them verifiable: the event's text is what counts."""
    lines = [json.loads(line) for line in LOG.export(tmp_path / "e").read_text().splitlines()]
    options = {
        "ascii": {},
        "spaces": {"indent": None, "separators": (" , ", " : ")},
        "order": {"sort_keys": True},
    }
    (tmp_path / "e").write_text("".join(json.dumps(line, **options[spelling]) + "\n" for line in lines))  # type: ignore[arg-type]
    assert verify_export(tmp_path / "e", Keys(KEY)).entries == 700


def test_an_export_whose_older_entries_are_archived(tmp_path: Path) -> None:
    """The header brings the frontier of what is not there, and the root holds it to that."""
    before = Frontier()
    for leaf in LOG.leaves[:300]:
        before.append(leaf)
    lines = [entry_line(index, event) for index, event in enumerate(LOG.events)][300:]
    path = tmp_path / "export.jsonl"
    path.write_text("".join([header_line(LOG.checkpoint(), before), *lines, checkpoint_line(LOG.note())]))
    assert verify_export(path, Keys(KEY)).entries == 400
    path.write_text(path.read_text().replace(encode(before.hashes[0]), encode(LOG.leaves[0])))
    with pytest.raises(VerificationError, match="root differs"):
        verify_export(path, Keys(KEY))


def test_an_empty_log(tmp_path: Path) -> None:
    """Has an export, too."""
    assert verify_export(Log([]).export(tmp_path / "e"), Keys(KEY)).entries == 0


Lines = Callable[[list[str]], list[str]]
FORK = Log(["{}", *LOG.events[1:]])
WRONG_EXPORTS: dict[str, tuple[str, Lines]] = {
    "an entry changed": ("root differs", lambda x: [*x[:9], x[9].replace("8", "9").replace('"index":9', '"index":8'), *x[10:]]),
    "an entry missing": ("entry 8 is missing: entry 9", lambda x: [*x[:9], *x[10:]]),
    "an entry twice": ("entry 9 is missing: entry 8", lambda x: [*x[:10], x[9], *x[10:]]),
    "two changed places": ("entry 8 is missing: entry 9", lambda x: [*x[:9], x[10], x[9], *x[11:]]),
    "two changed places, renumbered": (
        "root differs",
        lambda x: [*x[:9], entry_line(8, LOG.events[9]), entry_line(9, LOG.events[8]), *x[11:]],
    ),
    "the first missing": ("entry 0 is followed or replaced by entry 1", lambda x: [x[0], *x[2:]]),
    "the last missing": ("entries end at 699", lambda x: [*x[:-2], x[-1]]),
    "one more": ("entries end at 701", lambda x: [*x[:-1], entry_line(700, "{}"), x[-1]]),
    "no entries": ("entries end at 0", lambda x: [x[0], x[-1]]),
    "no header": ("line 1: this is no portal export", lambda x: x[1:]),
    "no checkpoint": ("the last line: checkpoint is missing", lambda x: x[:-1]),
    "another log's name": ("another log's name", lambda x: [x[0].replace(ORIGIN, "other/log"), *x[1:]]),
    "another size": ("another size", lambda x: [x[0].replace("700", "701"), *x[1:]]),
    "first is no number": ("first is missing or of the wrong", lambda x: [x[0].replace('"first":0', '"first":true'), *x[1:]]),
    "first without frontier": ("no frontier", lambda x: [x[0].replace('"first":0', '"first":3'), *x[1:]]),
    "an older checkpoint": ("another size", lambda x: [*x[:-1], checkpoint_line(LOG.note(699))]),
    "a fork's checkpoint": ("root differs", lambda x: [*x[:-1], checkpoint_line(FORK.note())]),
    "a checkpoint of another key": (
        "the checkpoint: no (co)?signature by",
        lambda x: [*x[:-1], checkpoint_line(signed(LOG.checkpoint(), bytes(32), ORIGIN))],
    ),
    "an uncosigned checkpoint": (
        f"no cosignature by {WITNESS}",
        lambda x: [*x[:-1], checkpoint_line(signed(LOG.checkpoint(), SEED, ORIGIN))],
    ),
    "an empty line": ("entry 8 is not JSON", lambda x: [*x[:9], "\n", *x[9:]]),
    "an entry that is cut short": ("entry 8 is not JSON", lambda x: [*x[:9], '{"index":8,"event":"}\n', *x[10:]]),
    "a name twice": ("entry 8 is not JSON", lambda x: [*x[:9], '{"index":8,"event":"{}","event":"{}"}\n', *x[10:]]),
    "a name too many": ("and nothing else", lambda x: [*x[:9], '{"index":8,"event":"{}","a":"{}"}\n', *x[10:]]),
    "an event that is no text": ("event is missing", lambda x: [*x[:9], '{"index":8,"event":7}\n', *x[10:]]),
    "a lone surrogate": ("not valid Unicode", lambda x: [*x[:9], '{"index":8,"event":"\\ud800"}\n', *x[10:]]),
    "an index that is true": ("index is missing", lambda x: [*x[:2], '{"index":true,"event":"{}"}\n', *x[3:]]),
    "a list": ("no JSON object", lambda x: ["[]\n", *x[1:]]),
    "the end is cut off": ("no end", lambda x: [*x[:-1], x[-1][:-1]]),
    "one line": ("one line", lambda x: x[:1]),
    "nothing": ("line 1 is not JSON", lambda x: []),
}  # fmt: skip


@pytest.mark.parametrize(("words", "change"), WRONG_EXPORTS.values(), ids=WRONG_EXPORTS)
@pytest.mark.parametrize("part", [100, PART_BYTES], ids=["small parts", "one part"])
def test_a_wrong_export(
    export: Path, words: str, change: Lines, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is found, however the file is cut; with one part, the words say what it is."""
    monkeypatch.setattr("protocol.verify.exports.PART_BYTES", part)
    export.write_text("".join(change(export.read_text().splitlines(keepends=True))))
    with pytest.raises(VerificationError, match=words if part == PART_BYTES else None):
        verify_export(export, Keys(KEY, [WITNESS_KEY]))


def test_every_flipped_bit_of_a_small_export_is_found(tmp_path: Path) -> None:
    """Or changes nothing that was said: spaces and names of JSON apart, no byte can be changed unseen."""
    export = log_of(4).export(tmp_path / "e")
    whole = export.read_bytes()
    assert verify_export(export, Keys(KEY, [WITNESS_KEY])).entries == 4
    for at in range(len(whole)):
        export.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(VerificationError):
            verify_export(export, Keys(KEY, [WITNESS_KEY]))


def test_a_failure_in_another_process_is_told(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its words."""
    monkeypatch.setattr("protocol.verify.exports.PART_BYTES", 5000)
    lines = export.read_text().splitlines(keepends=True)
    export.write_text("".join([*lines[:600], "{\n", *lines[601:]]))
    with pytest.raises(VerificationError, match="entry 599 is not JSON"):
        verify_export(export, Keys(KEY), processes=2)


# Receipts


def test_a_file_of_receipts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tenant's own entries."""
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{LOG.receipt(index).to_json()}\n" for index in (3, 1, 699)))
    assert said(capsys, "export", path)[1].startswith("verified: 3 entries of")
    path.write_text(path.read_text().replace("index 699", "index 698"))
    assert said(capsys, "export", path) == (
        1,
        "NOT VERIFIED: receipt 3 from byte 0: the leaf is not in this tree at this index\n",
    )


def test_one_receipt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its event is shown."""
    path = tmp_path / "receipt.json"
    path.write_text(LOG.receipt(11).to_json())
    status, text = said(capsys, "receipt", path)
    assert status == 0
    assert text.startswith("verified: entry 11; 1 entries of")
    assert '"n": 11' in text
    path.write_text(LOG.receipt(11).to_json().replace(":11}", ":12}"))
    assert said(capsys, "receipt", path) == (1, "NOT VERIFIED: the leaf is not in this tree at this index\n")
    path.write_text(" " * 2_000_000)
    assert said(capsys, "receipt", path)[0] == 1


def test_the_personal_data_of_a_receipt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each by its role in the event; a terminal obeys nothing of what the file says."""
    kind = "\x1b[2Jname"
    datum = Opening(commitment(bytes(32), kind, "Zoë").hex(), bytes(32), kind, "Zoë")
    log = Log([canonical({"personal": {"ac\x1btor": datum.commitment}}).decode()])
    path = tmp_path / "receipt.json"
    path.write_text(log.receipt(0, (datum,)).to_json())
    status, text = said(capsys, "receipt", path)
    assert status == 0
    assert text.endswith("""\n  'ac\\x1btor' ('\\x1b[2Jname'): "Zo\\u00eb"\n""")
    path.write_text(log.receipt(0, (replace(datum, value="Eve"),)).to_json())
    status, text = said(capsys, "receipt", path)
    assert (status, "\x1b" in text) == (1, False)


# Checkpoints


@pytest.mark.parametrize(("old", "new", "status"), [(300, 700, 0), (700, 700, 0), (700, 300, 1)])
def test_two_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: int, new: int, status: int
) -> None:
    """The newer extends the older, or not."""
    paths = [tmp_path / name for name in ("old", "new", "proof")]
    proof = hash_lines(LOG.consistency(min(old, new), max(old, new)))
    for path, text in zip(paths, (LOG.note(old), LOG.note(new), proof), strict=True):
        path.write_text(text)
    assert said(capsys, "checkpoints", *paths)[0] == status


def test_a_fork(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Signed by the same key, and still no extension."""
    paths = [tmp_path / name for name in ("old", "new", "proof")]
    for path, text in zip(paths, (FORK.note(300), LOG.note(), hash_lines(LOG.consistency(300))), strict=True):
        path.write_text(text)
    assert said(capsys, "checkpoints", *paths) == (
        1,
        "NOT VERIFIED: the proof does not fit the older root\n",
    )
    paths[2].write_bytes(b"\xff")
    assert said(capsys, "checkpoints", *paths) == (1, "NOT VERIFIED: the proof is not text\n")


# Tiles


def test_a_folder_of_tiles(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every entry up to the root."""
    assert said(capsys, "tiles", folder)[1].startswith("verified: 700 entries of")


def test_a_deep_folder_of_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three levels, each held by the one above: an entry changed with all its tiles but the topmost."""
    events = ["{}"] * 66_000
    folder = Log(events).folder(tmp_path)
    assert said(capsys, "tiles", folder)[0] == 0
    changed = Log(['{"n":1}', *events[1:]])
    (folder / entries_path(0)).write_bytes(bundle([event.encode() for event in changed.events[:256]]))
    for level in (0, 1):
        (folder / tile_path(level, 0)).write_bytes(changed.read_tile(level, 0, 256))
    assert said(capsys, "tiles", folder) == (
        1,
        "NOT VERIFIED: tile/1/000 does not fit the tile above it\n",
    )


def test_a_folder_under_a_forks_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All tiles fit one another, and not the root that was signed."""
    (folder / "checkpoint").write_text(FORK.note())
    assert said(capsys, "tiles", folder) == (
        1,
        "NOT VERIFIED: the tiles are not those that the checkpoint signs: their root differs\n",
    )


def test_a_segment(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Entries before it may be gone, and so may their tiles of level 0."""
    (folder / entries_path(0)).unlink()
    (folder / tile_path(0, 0)).unlink()
    assert said(capsys, "tiles", folder, "--first", "256")[1].startswith("verified: 444 entries of")
    assert said(capsys, "tiles", folder, "--first", "256", "--end", "512")[1].startswith("verified: 256")
    assert said(capsys, "tiles", folder) == (1, "NOT VERIFIED: tile/entries/000: No such file or directory\n")
    assert said(capsys, "tiles", folder, "--first", "256", "--end", "701")[0] == 1


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FILES = [
    "checkpoint",
    entries_path(1),
    entries_path(2, 188),
    tile_path(0, 1),
    tile_path(0, 2, 188),
    tile_path(1, 0, 2),
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "change",
    [
        _flip,
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    ],
    ids=["flipped", "missing", "empty", "longer"],
)
def test_a_wrong_file(
    folder: Path, name: str, change: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is found, and named where it alone is wrong."""
    change(folder / name)
    status, words = said(capsys, "tiles", folder)
    assert (status, words[:12]) == (1, "NOT VERIFIED")


def test_a_file_that_is_too_large_is_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever stands in it: a verifier's memory is not the log's to fill."""
    for name, limit in (("checkpoint", 65_536), (tile_path(0, 1), 8_192)):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole + bytes(limit))
        assert said(capsys, "tiles", folder) == (1, f"NOT VERIFIED: {name}: more than {limit} bytes\n")
        (folder / name).write_bytes(whole)


def test_a_tile_and_its_entries_changed_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fit one another, and not the tile above."""
    entries = [b"{}" for _ in range(256)]
    (folder / entries_path(1)).write_bytes(bundle(entries))
    (folder / tile_path(0, 1)).write_bytes(b"".join(Log(["{}"] * 256).leaves))
    assert said(capsys, "tiles", folder) == (1, "NOT VERIFIED: tile/0/001 does not fit the tile above it\n")
