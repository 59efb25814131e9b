"""Tiles from the database, in one question to it however many are wanted.

A full tile is a row. One that is not full follows from what is below it: hashes of leaves, or roots of tiles.
"""

from collections.abc import Iterable
from typing import Any

from django.db import connection

from protocol.merkle import HASH_BYTES
from protocol.tiles import TILE_WIDTH, ReadTile, TileError

_Place = tuple[int, int]
"""Level and index."""
_FULL = 'SELECT level, "index", -1, data FROM audit_tile WHERE level = %s AND "index" = %s'
_LEAVES = 'SELECT 0, CAST(%s AS bigint), "index", hash FROM audit_leaf WHERE "index" >= %s AND "index" < %s'
_ROOTS = """
SELECT level + 1, CAST(%s AS bigint), "index", root FROM audit_tile
WHERE "index" >= %s AND "index" < %s AND level = %s
"""
_WHOLE = -1
"""In place of a hash's number: the row is all of a tile."""


def read_tile(level: int, index: int, width: int = TILE_WIDTH) -> bytes:
    """The first ``width`` hashes of a tile, side by side, as :mod:`protocol.tiles` asks for them.

    Raises:
        TileError: the tree has not that many there.
    """
    return reader([(level, index, width)])(level, index, width)


def reader(wanted: Iterable[tuple[int, int, int]]) -> ReadTile:
    """What :func:`read_tile` answers for these tiles, ``(level, index, width)`` each; all are read now."""
    tiles = _fetch(list(wanted))

    def read(level: int, index: int, width: int) -> bytes:
        data = tiles.get((level, index), b"")[: max(0, width) * HASH_BYTES]
        if not 1 <= width <= TILE_WIDTH or len(data) != width * HASH_BYTES:
            raise TileError(f"the tree has no {width} hashes in tile {level}/{index}")
        return data

    return read


def _fetch(wanted: list[tuple[int, int, int]]) -> dict[_Place, bytes]:
    if not wanted:
        return {}
    parts, given = [], []
    for level, index, width in wanted:
        for sql, values in _questions(level, index, width):
            parts.append(sql)
            given += values
    whole: dict[_Place, bytes] = {}
    hashes: dict[_Place, list[tuple[int, bytes]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts), given)
        for level, index, at, data in cursor.fetchall():
            if at == _WHOLE:
                whole[level, index] = bytes(data)
            else:
                hashes.setdefault((level, index), []).append((at, bytes(data)))
    return {place: b"".join(data for _, data in sorted(rows)) for place, rows in hashes.items()} | whole


def _questions(level: int, index: int, width: int) -> list[tuple[str, list[Any]]]:
    """For a tile that is not full, also what is below it: a larger tree may have filled it since."""
    full: tuple[str, list[Any]] = (_FULL, [level, index])
    if width == TILE_WIDTH:
        return [full]
    first = index * TILE_WIDTH
    below = [index, first, first + width]
    return [full, (_ROOTS, [*below, level - 1]) if level else (_LEAVES, below)]
