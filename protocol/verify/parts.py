"""Long work in parts, on all processors: each part is hashed as far as it goes without its neighbours."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from protocol.merkle import Frontier, root
from protocol.tiles import TILE_HEIGHT, TILE_WIDTH

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Run:
    """Neighbouring leaves: whole tiles by their roots, and the leaves before and after them."""

    first: int
    head: list[bytes]
    tiles: list[bytes]
    tail: list[bytes]

    def extend(self, frontier: Frontier) -> None:
        """Append the leaves to a tree that ends where they begin."""
        for leaf in self.head:
            frontier.append(leaf)
        for tile in self.tiles:
            frontier.append_subtree(TILE_HEIGHT, tile)
        for leaf in self.tail:
            frontier.append(leaf)


def run_of(first: int, leaves: list[bytes]) -> Run:
    """Hash neighbouring leaves as far as they make whole tiles."""
    start = min(-first % TILE_WIDTH, len(leaves))
    end = start + (len(leaves) - start) // TILE_WIDTH * TILE_WIDTH
    tiles = [root(leaves[at : at + TILE_WIDTH]) for at in range(start, end, TILE_WIDTH)]
    return Run(first, leaves[:start], tiles, leaves[end:])


def in_order(work: Callable[[A], B], parts: Iterable[A], processes: int) -> Iterator[B]:
    """``work`` of each part, in their order; an exception of one is raised here."""
    if processes <= 1:
        yield from map(work, parts)
        return
    with ProcessPoolExecutor(processes) as pool:
        try:
            yield from pool.map(work, parts)
        finally:
            pool.shutdown(cancel_futures=True)
