"""Takes over what a host's proxy recorded, each line once, and keeps it for as long as is set.

The rows of a part and the place that it ended at are one transaction: a worker killed at any moment leaves
both or neither. Rows are telemetry (docs/adr/0002-audit-scope.md); that some were lost or deleted is an
entry.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from provisioning.driver import LibvirtDriver, connect
from provisioning.egress.attempts import read, rows_of
from provisioning.egress.delivery import look, note
from provisioning.egress.direct import count
from provisioning.egress.journal import file_name
from provisioning.egress.reports import Report
from provisioning.models import EgressCursor, EgressRecord, Host
from provisioning.specs import host_spec
from tenants.models import Tenant

log = logging.getLogger(__name__)
PART_BYTES = 256 * 1024
PARTS_AT_ONCE = 64
"""A flood is taken over in turns, so that other hosts get theirs."""


def collect(host: Host) -> None:
    """Take over what is new on ``host``, and note what its keeper says.

    Raises:
        DriverError: the host cannot be reached, or its keeper's state cannot be read.
    """
    with connect(host_spec(host)) as driver:
        report = look(driver)
        note(host.pk, report)
        count(host, report)
        if not report.last_record:
            return
        cursor, _made = EgressCursor.objects.get_or_create(host=host)
        for _ in range(PARTS_AT_ONCE):
            if not _take_part(host, cursor, driver, report):
                return


def _take_part(host: Host, cursor: EgressCursor, driver: LibvirtDriver, report: Report) -> bool:
    """Take over one part from where ``cursor`` stands; False when there is nothing more to do now."""
    if not report.first_record <= cursor.file <= report.last_record:
        return _move(cursor, report.first_record, 0, lost=cursor.file > 0)
    part = driver.egress_read(file_name(cursor.file), cursor.offset, PART_BYTES)
    if part is None:
        return cursor.file < report.last_record and _move(cursor, cursor.file + 1, 0, lost=True)
    attempts, taken, bad = read(part)
    if bad:
        # Only how many: what stands in them may be a guest's words.
        log.warning("host %s: %d lines of the proxy's records cannot be read", host.pk, bad)
    if taken:
        return _move(cursor, cursor.file, cursor.offset + taken, rows_of(host, attempts))
    # The keeper begins a file before it tells of it, so nothing is added any more to the one before.
    return cursor.file < report.last_record and _move(cursor, cursor.file + 1, 0)


def _move(
    cursor: EgressCursor,
    file: int,
    offset: int,
    rows: Sequence[EgressRecord] = (),
    *,
    lost: bool = False,
) -> bool:
    """Move the cursor and write ``rows``, both or neither; False if somebody else has moved it meanwhile."""
    with transaction.atomic():
        moved = EgressCursor.objects.filter(pk=cursor.pk, file=cursor.file, offset=cursor.offset).update(
            file=file, offset=offset
        )
        if not moved:
            return False
        EgressRecord.objects.bulk_create(rows, batch_size=500)
        if lost:
            record(
                action="egress.records_lost",
                actor=SYSTEM,
                target=("host", cursor.host_id),
                data={"after": f"{cursor.file}:{cursor.offset}", "next": f"{file}:{offset}"},
            )
    cursor.file, cursor.offset = file, offset
    return True


def purge() -> int:
    """Delete rows that are past their time, and each tenant's oldest beyond the limit; returns how many."""
    with transaction.atomic():
        before = timezone.now() - timedelta(days=settings.EGRESS_RETENTION_DAYS)
        gone = EgressRecord.objects.filter(at__lt=before).delete()[0]
        gone += sum(_purge_excess(tenant) for tenant in Tenant.objects.order_by("pk"))
        if gone:
            record(action="egress.records_purged", actor=SYSTEM, data={"rows": gone})
    return gone


def _purge_excess(tenant: Tenant) -> int:
    kept = EgressRecord.objects.filter(tenant=tenant).order_by("-pk")
    first_over = kept.values_list("pk", flat=True)[settings.EGRESS_RECORDS : settings.EGRESS_RECORDS + 1]
    return sum(EgressRecord.objects.filter(tenant=tenant, pk__lte=pk).delete()[0] for pk in first_over)
