"""A small log to test with: its leaves, its signed checkpoints, its tiles in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from protocol.checkpoints import Checkpoint, cosign, signed
from protocol.merkle import consistency_proof, inclusion_proof, leaf_hash, root
from protocol.notes import COSIGNATURE_V1, Note, vkey_of
from protocol.receipts import Opening, Proof, Receipt
from protocol.tiles import TILE_WIDTH, bundle, entries_path, tile_path
from protocol.verify.exports import checkpoint_line, entry_line, header_line

ORIGIN, SEED = "portal.test/log/one", bytes(range(32))
KEY = vkey_of(ORIGIN, SEED)
WITNESS, WITNESS_SEED = "guest.test/w", bytes(range(1, 33))
WITNESS_KEY = vkey_of(WITNESS, WITNESS_SEED, COSIGNATURE_V1)
TIME = 1_800_000_000


@dataclass
class Log:
    """Entries, and what can be said about them."""

    events: Sequence[str]
    leaves: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.leaves = [leaf_hash(event.encode()) for event in self.events]

    @cached_property
    def size(self) -> int:
        return len(self.leaves)

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """Of the first ``size`` entries; of all by default."""
        wanted = self.size if size is None else size
        return Checkpoint(ORIGIN, wanted, root(self.leaves[:wanted]))

    def note(self, size: int | None = None) -> str:
        """Signed by the log and by the witness."""
        note = signed(self.checkpoint(size), SEED, ORIGIN)
        return Note.parse(note).signed_also(cosign(note, WITNESS, WITNESS_SEED, TIME)).to_text()

    def consistency(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        return tuple(consistency_proof(self.leaves, old, self.size if new is None else new))

    def receipt(self, index: int, personal: tuple[Opening, ...] = ()) -> Receipt:
        hashes = tuple(inclusion_proof(self.leaves, index, self.size))
        return Receipt(self.events[index], Proof(index, hashes, self.note()), personal)

    def export(self, path: Path) -> Path:
        """All entries as JSON Lines."""
        lines = [entry_line(index, event) for index, event in enumerate(self.events)]
        path.write_text("".join([header_line(self.checkpoint()), *lines, checkpoint_line(self.note())]))
        return path

    def read_tile(self, level: int, index: int, width: int) -> bytes:
        """By brute force, from the leaves."""
        span = TILE_WIDTH**level
        first = index * TILE_WIDTH
        parts = [self.leaves[at * span : (at + 1) * span] for at in range(first, first + width)]
        return b"".join(root(part) for part in parts)

    def folder(self, folder: Path) -> Path:
        """All tiles, bundles and the checkpoint as files."""
        level = 0
        files = {"checkpoint": self.note().encode()}
        while hashes := self.size // TILE_WIDTH**level:
            for index in range(-(-hashes // TILE_WIDTH)):
                width = min(TILE_WIDTH, hashes - index * TILE_WIDTH)
                files[tile_path(level, index, width)] = self.read_tile(level, index, width)
            level += 1
        for first in range(0, self.size, TILE_WIDTH):
            part = [event.encode() for event in self.events[first : first + TILE_WIDTH]]
            files[entries_path(first // TILE_WIDTH, len(part))] = bundle(part)
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return folder


def log_of(size: int) -> Log:
    """Entries of different length, some with what JSON must escape."""
    return Log(
        [
            f'{{"data":"{"é" * (n % 5)}\\\\\\"{n}","n":{n}}}' if n % 7 == 3 else f'{{"n":{n}}}'
            for n in range(size)
        ]
    )
