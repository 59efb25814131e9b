"""What was found, kept: a row while a finding lasts, an entry when it appears and when it is gone."""

from django.db import transaction
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from provisioning.drift.findings import Finding
from provisioning.models import DriftFinding, Host, Runtime

MAXIMUM = 50
"""Findings that are kept of one subject at a time; who sees so many needs no more."""

BLIND = frozenset({"unreadable"})
"""Findings that say that nothing else could be seen. What was open before then stays open."""


@transaction.atomic
def keep(host: Host, runtime: Runtime | None, found: list[Finding]) -> list[Finding]:
    """Make the open rows of a runtime (of the host itself, if None) say just what was ``found``.

    Returns:
        What was not known before.
    """
    now = timezone.now()
    Host.objects.select_for_update().get(pk=host.pk)  # two checks at a time keep one after the other
    blind = any(each.code in BLIND for each in found)
    wanted = {(each.code, each.detail): each for each in sorted(set(found))[:MAXIMUM]}
    rows = DriftFinding.objects.filter(host=host, runtime=runtime, cleared_at=None).select_for_update()
    known = {(row.code, row.detail): row for row in rows}
    gone = [row for key, row in known.items() if _is_over(row, wanted.get(key), blind)]
    for row in gone:
        _clear(row, now)
    over = {(row.code, row.detail) for row in gone}
    seen = [row.pk for key, row in known.items() if key in wanted and key not in over]
    rows.filter(pk__in=seen).update(seen_at=now)
    new = [each for key, each in wanted.items() if key not in known or key in over]
    for each in new:
        _open(host, runtime, each, now)
    return new


def _is_over(row: DriftFinding, found: Finding | None, blind: bool) -> bool:
    """Whether a row ends: not found any more, though it would have been seen; or graver or less grave now."""
    if found is None:
        return not blind or row.code in BLIND
    return row.severity != found.severity.value


def _open(host: Host, runtime: Runtime | None, found: Finding, now: object) -> None:
    row = DriftFinding(
        host=host, runtime=runtime, code=found.code, severity=found.severity.value, detail=found.detail
    )
    row.found_at = row.seen_at = now  # type: ignore[assignment]
    row.save(force_insert=True)
    _record("drift.found", row)


def _clear(row: DriftFinding, now: object) -> None:
    row.cleared_at = now  # type: ignore[assignment]
    row.save(update_fields=["cleared_at"])
    _record("drift.cleared", row)


def _record(action: str, row: DriftFinding) -> None:
    record(
        action=action,
        actor=SYSTEM,
        tenant_id=row.runtime.tenant_id if row.runtime else None,
        target=("runtime", row.runtime_id) if row.runtime else ("host", row.host_id),
        data={"code": row.code, "severity": row.severity, "detail": row.detail},
    )
