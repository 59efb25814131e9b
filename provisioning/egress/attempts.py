"""From lines of a proxy's records to rows: whose they are, and alike ones together."""

import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from django.db.models import Q
from django.utils import timezone

from provisioning.addresses import link
from provisioning.egress.records import MAX_LINE, Record, RecordError, complete, parse
from provisioning.models import EgressRecord, Host, Runtime

PLACES = 100
"""Rows of one runtime from one part. A guest that tries more places at once gets one row for all the rest."""
MANY = "many"
"""The reason that such a row gives."""
_MOST = (1 << 63) - 1


def read(part: bytes) -> tuple[list[Record], int, int]:
    """The attempts at the beginning of ``part``, how many bytes they take, and how many lines say nothing."""
    lines, taken = complete(part)
    found = [_record(line) for line in lines]
    attempts = [each for each in found if isinstance(each, Record)]
    bad = sum(each is False for each in found)
    if not taken and len(part) > MAX_LINE:
        return [], len(part), 1  # no line is that long: skip it, or nothing after it would ever be read
    return attempts, taken, bad


def _record(line: bytes) -> Record | bool:
    """The attempt; True for a line that tells of none, False for one that nobody can read."""
    if len(line) > MAX_LINE:
        return False
    try:
        return parse(line.decode("utf-8", "replace")) or True
    except RecordError:
        return False


def rows_of(host: Host, attempts: Iterable[Record]) -> list[EgressRecord]:
    """Unsaved rows for ``attempts``, in the order in which each was first seen; nobody's are left out."""
    attempts = list(attempts)
    owners = _owners(host, attempts)
    rows: dict[tuple[object, ...], EgressRecord] = {}
    places: Counter[uuid.UUID] = Counter()
    for attempt in attempts:
        runtime = owners.get(attempt.runtime or attempt.listen)
        if runtime is None or (attempt.runtime is None and _at(attempt) < runtime.created_at):
            continue
        row = _row(runtime, attempt)
        if _key(row) not in rows and places[runtime.pk] == PLACES:
            row.host, row.port, row.reason = "", 0, MANY
        if _key(row) in rows:
            _merge(rows[_key(row)], row)
        else:
            rows[_key(row)] = row
            places[runtime.pk] += row.reason != MANY
    return list(rows.values())


def _owners(host: Host, attempts: list[Record]) -> dict[uuid.UUID | str, Runtime]:
    """By id, and by the host's end of its link for what the proxy could not tell more of.

    A host speaks for its own runtimes and for those that are on none any more, never for another host's.
    """
    named = {attempt.runtime for attempt in attempts if attempt.runtime}
    mine = Runtime.objects.filter(Q(host=host) | Q(host=None, pk__in=named))
    owners: dict[uuid.UUID | str, Runtime] = {}
    for runtime in mine:
        owners[runtime.pk] = runtime
        if runtime.host_id is not None:
            owners[link(runtime.network_index).host_address] = runtime
    return owners


def _row(runtime: Runtime, attempt: Record) -> EgressRecord:
    return EgressRecord(
        tenant_id=runtime.tenant_id,
        runtime=runtime,
        at=_at(attempt),
        host=attempt.host,
        port=attempt.port,
        verdict=attempt.verdict,
        reason=attempt.reason,
        bytes_up=attempt.bytes_up,
        bytes_down=attempt.bytes_down,
        seconds=attempt.milliseconds / 1000,
    )


def _at(attempt: Record) -> datetime:
    """When it ended, but never later than now: a row from the future would outstay its time."""
    now = timezone.now()
    if attempt.at_ms >= now.timestamp() * 1000:
        return now
    return datetime.fromtimestamp(attempt.at_ms / 1000, tz=UTC)


def _key(row: EgressRecord) -> tuple[object, ...]:
    return row.runtime_id, row.host, row.port, row.verdict, row.reason


def _merge(row: EgressRecord, more: EgressRecord) -> None:
    row.at = max(row.at, more.at)
    row.attempts += 1
    row.bytes_up = min(row.bytes_up + more.bytes_up, _MOST)
    row.bytes_down = min(row.bytes_down + more.bytes_down, _MOST)
    row.seconds = max(row.seconds, more.seconds)
