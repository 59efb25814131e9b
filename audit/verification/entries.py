"""Each leaf beside its entry: place, hash, columns, order and time."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from audit.verification.findings import Findings
from audit.verification.rows import AT, EVENT, FIRST_TEXT, TENANT, TEXTS, Row, microseconds
from protocol.merkle import HASH_BYTES

NO_HASH = bytes(HASH_BYTES)
"""In the place of a leaf that is gone."""


@dataclass(frozen=True)
class Pass:
    """What the sequencer took in one go: the leaves up to a checkpoint's size."""

    end: int
    earliest: int
    latest: int
    """Microseconds since 1970: between these every entry's time must lie."""


ENDLESS = Pass(2**63, -(2**63), 2**63)


def check_rows(
    rows: Iterable[Row], first: int, end: int, passes: Sequence[Pass], archived: int, found: Findings
) -> list[bytes]:
    """Compare, and answer the stored hash of each leaf from ``first`` on.

    Args:
        passes: in the order of their ends; what lies beyond the last one belongs to none.
        archived: leaves before this index may have lost their text to an archive.
    """
    hashes: list[bytes] = []
    expected, last, limits = first, -1, iter([*passes, ENDLESS])
    now = next(limits)
    for row in rows:
        index, leaf, entry, event = row[:4]
        if index != expected:
            _gap(expected, index, hashes, found)
        expected = index + 1
        hashes.append(leaf)
        while index >= now.end:
            now, last = next(limits), -1
        if entry < last:
            found.add("leaf_order", f"leaf {index} is of entry {entry}, after entry {last}")
        last = entry
        if event is None:
            found.add("entry_missing", f"leaf {index}: entry {entry}")
        elif not event and index < archived:
            continue
        elif sha256(b"\x00" + event).digest() != leaf:
            found.add("entry_changed", f"leaf {index}: entry {entry}")
        else:
            _check_columns(row, now, found)
    if expected < end:
        _gap(expected, end, hashes, found)
    return hashes


def _gap(expected: int, index: int, hashes: list[bytes], found: Findings) -> None:
    found.add("leaf_gap", f"leaf {expected}" + (f" to {index - 1}" if index > expected + 1 else ""))
    hashes += [NO_HASH] * (index - expected)


def _check_columns(row: Row, now: Pass, found: Findings) -> None:
    where = f"leaf {row[0]}: entry {row[2]}"
    try:
        event = json.loads(row[EVENT])
        tenant = event["tenant"]
        tenant_hex = tenant and tenant.replace("-", "")
        actor, target = event["actor"], event["target"]
        told = (
            event["action"],
            actor["kind"],
            actor["id"],
            target["type"],
            target["id"],
            event["request"],
        )
        at = microseconds(datetime.fromisoformat(event["at"]))
    except Exception:  # whatever somebody put there: it is a finding, and never the end of the verification
        found.add("column_differs", f"{where}: the text is no event")
        return
    if told != row[FIRST_TEXT:]:
        names = [name for name, one, two in zip(TEXTS, told, row[FIRST_TEXT:], strict=True) if one != two]
        found.add("column_differs", f"{where}: {', '.join(names)}")
    if tenant_hex != row[TENANT]:
        found.add("column_differs", f"{where}: tenant_id")
    if at != row[AT]:
        found.add("column_differs", f"{where}: at")
    if not now.earliest <= at <= now.latest:
        found.add("time_wrong", f"{where}: {event['at']}")
