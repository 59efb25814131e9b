"""65,536 leaves at once: their entries, the tiles over them, and the root at each signed size among them.

A chunk needs nothing of its neighbours, so several processes can share the work.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from audit import log
from audit.models import Checkpoint, Tile
from audit.verification.entries import Pass, check_rows
from audit.verification.findings import Findings
from audit.verification.rows import microseconds, rows
from protocol.checkpoints import opened
from protocol.merkle import Frontier, root
from protocol.notes import NoteError
from protocol.tiles import TILE_HEIGHT, TILE_WIDTH

CHUNK_LEVEL = 16
CHUNK = 1 << CHUNK_LEVEL
EARLY = timedelta(minutes=15)
"""How long an entry may have waited in its transaction after the checkpoint before its own."""
AHEAD = timedelta(minutes=2)
"""How far clocks of two machines may differ."""


@dataclass(frozen=True)
class Task:
    """Leaves ``first <= index < end``; ``first`` is a multiple of :data:`CHUNK`."""

    first: int
    end: int
    archived: int
    """Leaves before this one may have lost their text to an archive."""
    sizes: frozenset[int]
    """Sizes beside the checkpoints' at which somebody knows a root."""


@dataclass
class Result:
    """What a chunk has shown. Frontiers are those of the chunk alone, as if no leaf stood before it."""

    task: Task
    findings: Findings = field(default_factory=Findings)
    frontiers: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    """Tree size → frontier of the chunk's leaves up to it."""
    whole: tuple[bytes, ...] = ()
    """The frontier of all the chunk's leaves."""
    heads: list[tuple[int, bytes]] = field(default_factory=list)
    """The checkpoints' signed sizes and roots."""


def check_chunk(task: Task) -> Result:
    """Check one. Reads the database, and writes nothing."""
    result = Result(task)
    checkpoints = list(Checkpoint.objects.filter(size__gt=task.first, size__lte=task.end).order_by("size"))
    result.heads = list(_heads(checkpoints, result.findings))
    passes = list(_passes(task.first, checkpoints))
    hashes = check_rows(
        rows(task.first, task.end), task.first, task.end, passes, task.archived, result.findings
    )
    sizes = task.sizes | {size for size, _ in result.heads}
    roots = _fold(hashes, sizes, result)
    _check_tiles(0, task.first // TILE_WIDTH, _tiles(hashes), roots, result.findings)
    _check_tiles(1, task.first // CHUNK, _tiles(roots), [root(roots)], result.findings)
    return result


def _fold(hashes: list[bytes], sizes: frozenset[int], result: Result) -> list[bytes]:
    """The root of each full tile; leaf by leaf only where somebody asks for a size inside one."""
    frontier, roots = Frontier(), []
    inside = frontier
    asked = {(size - 1) // TILE_WIDTH for size in sizes if size % TILE_WIDTH}
    for at in range(0, len(hashes), TILE_WIDTH):
        tile, begin = hashes[at : at + TILE_WIDTH], result.task.first + at
        if begin // TILE_WIDTH in asked or len(tile) < TILE_WIDTH:
            inside = frontier.copy()
            for size, leaf in enumerate(tile, begin + 1):
                inside.append(leaf)
                if size in sizes:
                    result.frontiers[size] = inside.hashes
        if len(tile) == TILE_WIDTH:
            roots.append(root(tile))
            frontier.append_subtree(TILE_HEIGHT, roots[-1])
            inside = frontier
            if begin + TILE_WIDTH in sizes:
                result.frontiers[begin + TILE_WIDTH] = frontier.hashes
    result.whole = inside.hashes
    return roots


def _tiles(hashes: list[bytes]) -> list[bytes]:
    """The full ones."""
    ends = range(TILE_WIDTH, len(hashes) + 1, TILE_WIDTH)
    return [b"".join(hashes[end - TILE_WIDTH : end]) for end in ends]


def _check_tiles(level: int, first: int, data: list[bytes], roots: list[bytes], found: Findings) -> None:
    stored = Tile.objects.filter(level=level, index__gte=first, index__lt=first + len(data))
    have = {
        index: (bytes(one), bytes(above)) for index, one, above in stored.values_list("index", "data", "root")
    }
    for index, expected in enumerate(zip(data, roots, strict=False), first):
        if have.get(index) != expected:
            found.add("tile_wrong", f"tile {level}/{index}")


def _heads(checkpoints: list[Checkpoint], found: Findings) -> Iterator[tuple[int, bytes]]:
    for one in checkpoints:
        try:
            signed = opened(one.note, log.vkey())
        except NoteError as error:
            found.add("signature_wrong", f"checkpoint {one.size}: {error}")
            yield one.size, bytes(one.root)
            continue
        if (signed.size, signed.root) != (one.size, bytes(one.root)):
            found.add("checkpoint_wrong", f"checkpoint {one.size}: its columns differ from the signed text")
        yield one.size, signed.root


def _passes(first: int, checkpoints: list[Checkpoint]) -> Iterator[Pass]:
    """From each checkpoint to the next; the first of all has no earliest time."""
    before = Checkpoint.objects.filter(size__lte=first).order_by("-size").first()
    earliest = microseconds(before.at - EARLY) if before else -(2**63)
    for one in checkpoints:
        yield Pass(one.size, earliest, microseconds(one.at + AHEAD))
        earliest = microseconds(one.at - EARLY)
