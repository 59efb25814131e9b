"""The whole verification: chunk after chunk, in one process or more, then what stands around them."""

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from django.db.models import Max

from audit import proofs
from audit.models import Leaf, Segment
from audit.verification import outside
from audit.verification.chunk import CHUNK, CHUNK_LEVEL, Result, Task, check_chunk
from audit.verification.findings import Findings
from audit.verification.moment import enter, one_moment
from audit.verification.outside import Claim
from audit.verification.strays import check_strays
from audit.verification.vouching import check_vouching
from protocol.merkle import Frontier, ProofError, fold
from protocol.tiles import frontier_from_tiles, root_from_tiles


@dataclass
class Report:
    """What was looked at, and what was found."""

    first: int = 0
    """The leaf that it began with."""
    leaves: int = 0
    checkpoints: int = 0
    cosignatures: int = 0
    claims: int = 0
    """Roots from outside: the sequencer's memory, kept checkpoints, and disputes."""
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)

    @property
    def whole(self) -> bool:
        """Whether nothing was found."""
        return not self.findings.counts


def verify(
    *,
    since: int = 0,
    memory: Path | None = None,
    kept: Iterable[tuple[str, str]] = (),
    processes: int = 1,
) -> Report:
    """Verify the record as it stands in the database. Writes nothing.

    Args:
        since: begin with the chunk of this leaf; what is before it is taken from the tiles, which the later
            checkpoints prove.
        memory: the sequencer's own folder, where this process may read it.
        kept: checkpoints that somebody kept outside, each with a name for messages.
        processes: more than one only outside a transaction, and not on SQLite.
    """
    began, report = time.monotonic(), Report()
    # Before all else: what is signed later than the moment that is looked at would seem to be cut off.
    claims = [
        *outside.kept(kept, report.findings),
        *outside.disputed(),
        *(outside.remembered(memory, report.findings) if memory else ()),
    ]
    report.claims = len(claims)
    with one_moment() as moment:
        _verify(report, since, claims, processes, moment)
    report.seconds = time.monotonic() - began
    return report


def _verify(report: Report, since: int, claims: list[Claim], processes: int, moment: str) -> None:
    last = Leaf.objects.aggregate(last=Max("index"))["last"]
    size = 0 if last is None else last + 1
    report.first = min(since, size) // CHUNK * CHUNK
    report.leaves = size - report.first
    found = report.findings
    _check_tree(report, size, claims, processes if moment else 1, moment)
    outside.too_large(size, found)
    report.cosignatures = outside.check_witnesses(report.first, found)
    check_vouching(found)
    check_strays(size, found)


def _check_tree(report: Report, size: int, claims: list[Claim], processes: int, moment: str) -> None:
    archived, sizes = Segment.archived(), frozenset(claim.size for claim in claims)
    tasks = [
        Task(first, min(first + CHUNK, size), archived, sizes) for first in range(report.first, size, CHUNK)
    ]
    roots = dict(_earlier(report, claims))
    outer = _outer(report)
    for result in _results(tasks, processes, moment):
        here = {end: fold((*outer.hashes, *hashes)) for end, hashes in result.frontiers.items()}
        report.findings.merge(result.findings)
        report.checkpoints += len(result.heads)
        for end, root in result.heads:
            if here.get(end) != root:
                report.findings.add("checkpoint_wrong", f"checkpoint {end}: its leaves have another root")
        roots |= {end: root for end, root in here.items() if end in sizes}
        if result.task.end - result.task.first == CHUNK:
            outer.append_subtree(CHUNK_LEVEL, result.whole[0])
    for claim in claims:
        _check_claim(claim, size, roots, report.findings)


def _check_claim(claim: Claim, size: int, roots: dict[int, bytes], found: Findings) -> None:
    if claim.size > size:
        found.add("rolled_back", f"{claim.by}: a tree of {claim.size} was signed, and {size} leaves are here")
    elif roots.get(claim.size) != claim.root:
        found.add("forked", f"{claim.by}: the first {claim.size} leaves are not those that were signed")


def _earlier(report: Report, claims: list[Claim]) -> Iterator[tuple[int, bytes]]:
    """Roots of trees that end before the first chunk."""
    for claim in claims:
        if claim.size <= report.first:
            try:
                yield claim.size, root_from_tiles(claim.size, proofs.read_tile)
            except ProofError as error:
                report.findings.add("tile_wrong", str(error))


def _outer(report: Report) -> Frontier:
    try:
        return Frontier(report.first, frontier_from_tiles(report.first, proofs.read_tile))
    except ProofError as error:
        report.findings.add("tile_wrong", str(error))
        return Frontier(report.first, [bytes(32)] * report.first.bit_count())


def _results(tasks: list[Task], processes: int, moment: str) -> Iterator[Result]:
    if min(processes, len(tasks)) < 2:
        yield from map(check_chunk, tasks)
        return
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, fork, initializer=enter, initargs=(moment,)) as pool:
        yield from pool.map(check_chunk, tasks)
