"""Exports: JSON Lines of a whole log, or of some of its entries as receipts.

A whole log is a header ``{"format":"portal export v1","origin":…,"first":0,"size":N}``, one line
``{"index":i,"event":"…"}`` for each entry, and ``{"checkpoint":"<note>"}``. Where older entries have been
archived, ``first`` is not 0 and the header's ``before`` holds the frontier of the leaves before it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from protocol.checkpoints import Checkpoint
from protocol.merkle import Frontier, ProofError, leaf_hash
from protocol.notes import NoteError, decode, encode
from protocol.receipts import FORMAT as RECEIPT_FORMAT
from protocol.receipts import Receipt, ReceiptError, check_in
from protocol.verify.lines import MAX_LINE_BYTES, member, object_of
from protocol.verify.outcome import Keys, VerificationError, Verified
from protocol.verify.parts import Run, in_order, run_of

FORMAT = "portal export v1"
PART_BYTES = 8 * 1024 * 1024


def header_line(checkpoint: Checkpoint, frontier: Frontier | None = None) -> str:
    """The first line, with its end. ``frontier``: of the leaves before the first that follows, if any."""
    before = frontier or Frontier()
    document: dict[str, Any] = {"format": FORMAT, "origin": checkpoint.origin, "first": before.size}
    document["size"] = checkpoint.size
    if before.size:
        document["before"] = [encode(one) for one in before.hashes]
    return _line(document)


def entry_line(index: int, event: str) -> str:
    """One entry's line, with its end."""
    return _line({"index": index, "event": event})


def checkpoint_line(note: str) -> str:
    """The last line, with its end."""
    return _line({"checkpoint": note})


def verify_export(path: Path, keys: Keys, processes: int = 1) -> Verified:
    """Check a whole export, or a file of receipts.

    Raises:
        VerificationError: it does not verify.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        first_line = file.readline(MAX_LINE_BYTES)
        header = object_of(first_line, "line 1")
        if header.get("format") == RECEIPT_FORMAT:
            return _receipts(path, keys, processes)
        last_at, last = _last_line(file)
    checkpoint, cosigned = keys.opened(member(last, "checkpoint", str, "the last line"))
    frontier = _begin(header, checkpoint)
    first = frontier.size
    parts = _parts(path, len(first_line), last_at)
    for run in in_order(partial(_entries, path), parts, processes):
        if run.first != frontier.size:
            raise VerificationError(f"entry {frontier.size} is followed or replaced by entry {run.first}")
        run.extend(frontier)
    if frontier.size != checkpoint.size:
        raise VerificationError(
            f"entries end at {frontier.size}, and the checkpoint's tree at {checkpoint.size}"
        )
    if frontier.root() != checkpoint.root:
        raise VerificationError("the entries are not those that the checkpoint signs: their root differs")
    return Verified(frontier.size - first, checkpoint, cosigned)


def _begin(header: dict[str, Any], checkpoint: Checkpoint) -> Frontier:
    if header.get("format") != FORMAT:
        raise VerificationError(f"line 1: this is no {FORMAT}")
    if member(header, "origin", str, "line 1") != checkpoint.origin:
        raise VerificationError("line 1: another log's name than the checkpoint's")
    if member(header, "size", int, "line 1") != checkpoint.size:
        raise VerificationError("line 1: another size than the checkpoint's")
    before = member(header, "before", list, "line 1") if "before" in header else []
    try:
        hashes = [decode(str(one), "a hash") for one in before]
        return Frontier(member(header, "first", int, "line 1"), hashes)
    except (NoteError, ProofError) as error:
        raise VerificationError(f"line 1: {error}") from None


@dataclass(frozen=True)
class _Part:
    """Whole lines of a file: bytes from the first to, and without, the second."""

    begin: int
    end: int


def _parts(path: Path, begin: int, end: int) -> list[_Part]:
    with path.open("rb") as file:
        cuts = [begin]
        while cuts[-1] + PART_BYTES < end:
            file.seek(cuts[-1] + PART_BYTES)
            _whole(file.readline(MAX_LINE_BYTES + 1))
            cuts.append(min(file.tell(), end))
    return [_Part(one, two) for one, two in pairwise([*cuts, end]) if one < two]


def _lines(path: Path, part: _Part) -> Iterator[bytes]:
    """The lines of a part, without their ends."""
    with path.open("rb") as file:
        file.seek(part.begin)
        lines = file.read(part.end - part.begin).split(b"\n")
    if lines.pop():
        raise VerificationError("the file's last line has no end: it is cut short")
    yield from lines


def _entries(path: Path, part: _Part) -> Run:
    """The leaves of a part's lines.

    Most lines are spelled as :func:`entry_line` does it, and hold no escapes but of quotes; those need no
    JSON reader. All others go through one.
    """
    lines = list(_lines(path, part))
    first = expected = _entry(lines[0], None)[0]
    leaves = []
    for line in lines:
        start = b'{"index":%d,"event":"' % expected
        body, end = line[len(start) : -2], line[len(start) :][-2:]
        event = body.replace(b'\\"', b'"')
        escapes = len(body) - len(event)
        plain = line.startswith(start) and end == b'"}' and body.count(b'"') == escapes and b"\\" not in event
        leaves.append(leaf_hash(event if plain else _entry(line, expected)[1]))
        expected += 1
    return run_of(first, leaves)


def _entry(line: bytes, expected: int | None) -> tuple[int, bytes]:
    where = "an entry" if expected is None else f"entry {expected}"
    document = object_of(line, where)
    index = member(document, "index", int, where)
    if set(document) != {"index", "event"}:
        raise VerificationError(f"{where}: a line of an entry has index and event, and nothing else")
    if expected is not None and index != expected:
        raise VerificationError(f"{where} is missing: entry {index} stands in its place")
    try:
        return index, member(document, "event", str, where).encode()
    except UnicodeError:
        raise VerificationError(f"{where}: not valid Unicode") from None


def _receipts(path: Path, keys: Keys, processes: int) -> Verified:
    parts = _parts(path, 0, path.stat().st_size)
    counts = list(in_order(partial(_receipt_lines, path, keys), parts, processes))
    newest = max((one for one in counts), key=lambda one: one.checkpoint.size)
    return Verified(sum(one.entries for one in counts), newest.checkpoint, newest.cosigned)


def _receipt_lines(path: Path, keys: Keys, part: _Part) -> Verified:
    @lru_cache(maxsize=16)
    def opened(note: str) -> tuple[Checkpoint, dict[str, int]]:
        return keys.opened(note)

    newest: tuple[Checkpoint, dict[str, int]] | None = None
    count = 0
    for count, line in enumerate(_lines(path, part), 1):
        try:
            receipt = Receipt.parse(line)
            found = opened(receipt.proof.note)
            check_in(receipt, found[0])
        except ReceiptError as error:
            raise VerificationError(f"receipt {count} from byte {part.begin}: {error}") from None
        newest = max(newest or found, found, key=lambda one: one[0].size)
    if newest is None:
        raise VerificationError("no receipt")
    return Verified(count, *newest)


def _last_line(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Where the last line begins, and what it holds."""
    end = file.seek(0, 2)
    start = max(0, end - MAX_LINE_BYTES)
    file.seek(start)
    tail = file.read()
    if not tail.endswith(b"\n"):
        raise VerificationError("the file's last line has no end: it is cut short")
    at = tail.rfind(b"\n", 0, -1) + 1
    if not at:
        raise VerificationError("the file has one line, or a last line that is too long")
    return start + at, object_of(tail[at:], "the last line")


def _whole(line: bytes) -> None:
    if len(line) > MAX_LINE_BYTES:
        raise VerificationError(f"a line is longer than {MAX_LINE_BYTES} bytes")


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
