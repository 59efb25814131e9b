"""The tree as the database holds it: read at the start, compared with what was signed, and extended."""

from collections.abc import Iterable
from pathlib import Path

from django.db.models import Max
from django.utils import timezone

from audit import proofs
from audit.faults import around
from audit.models import Checkpoint, Entry, Leaf, Tile
from audit.sequencer import memory
from audit.sequencer.growth import FullTile, Growth
from audit.sequencer.memory import MemoryUnreadableError, Signed
from audit.sequencer.trouble import TroubleError
from protocol import checkpoints
from protocol.merkle import ProofError, leaf_hash
from protocol.notes import NoteError, VerifierKey
from protocol.tiles import TILE_WIDTH, root_from_tiles, split_tile

_ROWS = 1000
"""Rows of one INSERT."""
_EVENTS = 200
"""Events that are held in memory at once; each has up to 60,000 bytes."""


def load(vkey: VerifierKey) -> Growth:
    """The tree up to its newest checkpoint, from which it goes on.

    Raises:
        TroubleError: what stands there does not belong together, or another key signed it.
    """
    last = Leaf.objects.aggregate(last=Max("index"))["last"]
    size, head = 0 if last is None else last + 1, proofs.latest()
    if size != (head.size if head else 0):
        raise TroubleError(
            "torn", f"{size} leaves stand beside a newest checkpoint of {head.size if head else 0}"
        )
    if head is None:
        return Growth()
    try:
        signed = checkpoints.opened(head.note, vkey)
        growth = Growth(size, _edges(size))
    except NoteError as error:
        raise TroubleError("other_key", f"the newest checkpoint: {error}") from None
    except ProofError as error:
        raise TroubleError("torn", f"the tree of {size} leaves cannot be read: {error}") from None
    if (signed.size, signed.root) != (size, growth.root()) or bytes(head.root) != signed.root:
        raise TroubleError("torn", f"leaves and tiles do not have the root of the checkpoint of {size}")
    return growth


def _edges(size: int) -> list[list[bytes]]:
    edges: list[list[bytes]] = []
    while size:
        width, index = size % TILE_WIDTH, size // TILE_WIDTH
        edges.append(split_tile(proofs.read_tile(len(edges), index, width), width) if width else [])
        size = index
    return edges


def compare(growth: Growth, vkey: VerifierKey, folder: Path) -> None:
    """Hold the database against what this machine remembers to have signed; remember what is newer.

    Raises:
        TroubleError: the database does not extend it.
        OSError: what is newer could not be written.
    """
    try:
        known = memory.read(folder)
    except MemoryUnreadableError as error:
        raise TroubleError("memory", str(error)) from None
    here = Signed(vkey.name, growth.size, growth.root())
    if known is not None:
        _extends(known, here)
    if growth.size and known != here:
        memory.write(folder, here)


def _extends(known: Signed, here: Signed) -> None:
    if known.origin != here.origin:
        raise TroubleError("memory", f"this machine signed for {known.origin}, and this log is {here.origin}")
    if known.size > here.size:
        raise TroubleError("rolled_back", f"a tree of {known.size} was signed, and {here.size} are here")
    try:
        root = root_from_tiles(known.size, proofs.read_tile)
    except ProofError as error:
        raise TroubleError("torn", f"the tree of {known.size} leaves cannot be read: {error}") from None
    if root != known.root:
        raise TroubleError("forked", f"the first {known.size} leaves are not those that were signed")


def confirm_head(growth: Growth) -> None:
    """In the writing transaction: the newest checkpoint is the one that we go on from.

    Raises:
        TroubleError: the database was changed under us.
    """
    head = Checkpoint.objects.order_by("-size").values_list("size", "root").first()
    size, root = (head[0], bytes(head[1])) if head else (0, growth.root())
    if size < growth.size:
        raise TroubleError("rolled_back", f"a tree of {growth.size} was signed, and {size} are here")
    if size > growth.size or root != growth.root():
        raise TroubleError("forked", f"a checkpoint of {size} is here that this sequencer did not sign")


def append(growth: Growth, ids: list[int]) -> None:
    """Give these entries their leaves, from the text that is stored, and write the tiles that are full.

    Raises:
        TroubleError: an entry has vanished since it was looked up.
    """
    first = growth.size
    hashes = _hashes(ids)
    tiles = growth.extend(hashes)
    leaves = (
        Leaf(index=index, entry_id=pk, hash=hash_)
        for index, (pk, hash_) in enumerate(zip(ids, hashes, strict=True), first)
    )
    with around("sequencer.leaves"):
        Leaf.objects.bulk_create(leaves, batch_size=_ROWS)
    with around("sequencer.tiles"):
        Tile.objects.bulk_create(_rows(tiles), batch_size=_ROWS // 10)


def _hashes(ids: list[int]) -> list[bytes]:
    """The leaf hash of each entry, read in pieces."""
    found: dict[int, bytes] = {}
    for at in range(0, len(ids), _EVENTS):
        rows = Entry.objects.filter(pk__in=ids[at : at + _EVENTS]).values_list("pk", "event")
        found |= {pk: leaf_hash(event.encode()) for pk, event in rows}
    if len(found) != len(ids):
        raise TroubleError("torn", f"{len(ids) - len(found)} entries have vanished")
    return [found[pk] for pk in ids]


def _rows(tiles: Iterable[FullTile]) -> list[Tile]:
    return [Tile(level=one.level, index=one.index, data=one.data, root=one.root) for one in tiles]


def sign(growth: Growth, vkey: VerifierKey, seed: bytes) -> None:
    """Sign and store the head of the tree as it has become."""
    root = growth.root()
    note = checkpoints.signed(checkpoints.Checkpoint(vkey.name, growth.size, root), seed, vkey.name)
    with around("sequencer.checkpoint"):
        Checkpoint.objects.create(size=growth.size, root=root, note=note, at=timezone.now())
