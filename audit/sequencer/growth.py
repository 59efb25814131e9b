"""The tree while it grows: as little of it as the next leaf, tile and root need. Pure; no database."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from protocol.merkle import EMPTY_ROOT, root
from protocol.tiles import TILE_WIDTH


@dataclass(frozen=True)
class FullTile:
    """A tile that has just been filled."""

    level: int
    index: int
    data: bytes
    root: bytes


@dataclass
class Growth:
    """A tree's size, and for each level of tiles the hashes of the one that is not full yet."""

    size: int = 0
    edges: list[list[bytes]] = field(default_factory=list)

    def copy(self) -> "Growth":
        """Another one that grows apart from here."""
        return Growth(self.size, [list(edge) for edge in self.edges])

    def append(self, leaf: bytes) -> Iterator[FullTile]:
        """Add a leaf's hash; answers the tiles that it fills, which is none 255 times of 256."""
        hash_, index = leaf, self.size
        self.size += 1
        for level in range(len(self.edges) + 1):
            if level == len(self.edges):
                self.edges.append([])
            edge = self.edges[level]
            edge.append(hash_)
            if len(edge) < TILE_WIDTH:
                return
            index //= TILE_WIDTH
            hash_ = root(edge)
            yield FullTile(level, index, b"".join(edge), hash_)
            self.edges[level] = []

    def extend(self, leaves: Iterable[bytes]) -> list[FullTile]:
        """Add many; answers the tiles that they fill, in the order in which they become full."""
        return [tile for leaf in leaves for tile in self.append(leaf)]

    def root(self) -> bytes:
        """The root over all leaves.

        The hashes of one level stand for subtrees of one size, and what the levels below have not filled yet
        is a smaller subtree to the right of them: RFC 9162 folds these as if they were leaves.
        """
        seen: list[bytes] = []
        for edge in self.edges:
            hashes = [*edge, *seen]
            seen = [root(hashes)] if hashes else []
        return seen[0] if seen else EMPTY_ROOT
