"""What was found, kept: a row while a finding lasts, an entry when it appears and when it is gone."""

from django.db import transaction
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from provisioning.drift.findings import Finding
from provisioning.models import DriftFinding, Host, Runtime

MAXIMUM = 50
"""Findings that are kept of one subject at a time; who sees so many needs no more."""


@transaction.atomic
def keep(host: Host, runtime: Runtime | None, found: list[Finding]) -> list[Finding]:
    """Make the open rows of a runtime (of the host itself, if None) say just what was ``found``.

    Returns:
        What was not known before.
    """
    now = timezone.now()
    Host.objects.select_for_update().get(pk=host.pk)  # two checks at a time keep one after the other
    wanted = {(each.code, each.detail): each for each in sorted(set(found))[:MAXIMUM]}
    rows = DriftFinding.objects.filter(host=host, runtime=runtime, cleared_at=None).select_for_update()
    known = {(row.code, row.detail): row for row in rows}
    for key, row in known.items():
        if key not in wanted:
            _clear(row, now)
        elif row.severity != wanted[key].severity.value:
            row.severity = wanted[key].severity.value
            row.save(update_fields=["severity"])
    gone = [row.pk for key, row in known.items() if key not in wanted]
    rows.exclude(pk__in=gone).update(seen_at=now)
    new = [each for key, each in wanted.items() if key not in known]
    for each in new:
        _open(host, runtime, each, now)
    return new


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
