"""A machine's outside connections as people see them: what it may reach, what it tried, what was dropped."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Q, Sum
from django.utils import timezone

from portal.secrets import present_runtime
from provisioning.egress.records import REASONS
from provisioning.models import EgressRecord, Runtime
from provisioning.selectors import egress_in_force, egress_records_for
from tenants.models import Tenant

Verdict = EgressRecord.Verdict
WORDS = {**REASONS, "many": "many more places than are listed one by one"}
"""What a record's reason means."""
PAGE = 50
DAY = timedelta(hours=24)
_MAX_ID = (1 << 63) - 1


@dataclass(frozen=True)
class Asked:
    """Which part of the record is wanted."""

    verdict: str = ""
    """``allowed``, ``refused``, or empty: both."""
    before: int = _MAX_ID
    """Rows older than this one."""

    @classmethod
    def of(cls, verdict: str, before: str) -> "Asked":
        """From a request's words.

        Raises:
            ValueError: what to give instead.
        """
        if verdict not in {"", *Verdict.values}:
            raise ValueError("verdict: give allowed or refused, or leave it out.")
        if before and not (before.isascii() and before.isdigit() and 0 < int(before[:20]) <= _MAX_ID):
            raise ValueError("before: give what an earlier answer said in next, or leave it out.")
        return cls(verdict, int(before) if before else _MAX_ID)


def records(
    person: AbstractBaseUser | AnonymousUser, tenant: Tenant, asked: Asked
) -> tuple[list[EgressRecord], int | None]:
    """One page, the newest first, and where the next begins; None at the end."""
    found = egress_records_for(person).filter(tenant=tenant, pk__lt=asked.before).order_by("-pk")
    if asked.verdict:
        found = found.filter(verdict=asked.verdict)
    rows = list(found[: PAGE + 1])
    return rows[:PAGE], rows[PAGE - 1].pk if len(rows) > PAGE else None


def day(tenant: Tenant) -> dict[str, int]:
    """Attempts and bytes of the last 24 hours."""
    recent = EgressRecord.objects.filter(tenant=tenant, at__gte=timezone.now() - DAY)
    sums = recent.aggregate(
        allowed=Sum("attempts", filter=Q(verdict=Verdict.ALLOWED)),
        refused=Sum("attempts", filter=Q(verdict=Verdict.REFUSED)),
        bytes_up=Sum("bytes_up"),
        bytes_down=Sum("bytes_down"),
    )
    return {name: value or 0 for name, value in sums.items()}


def entry(row: EgressRecord) -> dict[str, Any]:
    """One row, for the API."""
    return {
        "at": row.at.isoformat(),
        "host": row.host,
        "port": row.port,
        "verdict": row.verdict,
        "reason": row.reason,
        "explanation": WORDS.get(row.reason, ""),
        "attempts": row.attempts,
        "bytes_up": row.bytes_up,
        "bytes_down": row.bytes_down,
        "seconds": row.seconds,
    }


def way_out(tenant: Tenant) -> dict[str, Any]:
    """What the tenant's machine can reach, for the API."""
    runtime = present_runtime(tenant)
    since = egress_in_force(tenant.pk)
    return {
        "served": runtime is not None and runtime.egress_at is not None,
        "in_force_since": since.isoformat() if since else None,
        "reaches": [{"host": name, "port": port} for name, port in (runtime.egress_hosts if runtime else [])],
        "direct": _direct(runtime),
        "day": day(tenant),
    }


def _direct(runtime: Runtime | None) -> dict[str, Any]:
    at = runtime.direct_at if runtime else None
    return {
        "packets": runtime.direct_packets if runtime else 0,
        "bytes": runtime.direct_bytes if runtime else 0,
        "last_at": at.isoformat() if at else None,
    }


def outside_page(person: AbstractBaseUser | AnonymousUser, tenant: Tenant, asked: Asked) -> dict[str, Any]:
    """What the page shows."""
    runtime = present_runtime(tenant)
    rows, following = records(person, tenant, asked)
    return {
        "runtime": runtime,
        "since": egress_in_force(tenant.pk),
        "day": day(tenant),
        "rows": [{"record": row, "words": WORDS.get(row.reason, row.reason)} for row in rows],
        "next": following,
        "asked": asked,
        "first_page": asked.before == _MAX_ID,
        "verdicts": [("", "All"), (Verdict.ALLOWED.value, "Allowed"), (Verdict.REFUSED.value, "Refused")],
    }
