"""What a tenant may use, what its machine has of that, and what it uses now: for the page and the API."""

from typing import Any

from portal.rates import API, LABELS, ROUTED, used
from provisioning.models import Host, Operation, Runtime
from provisioning.quotas import MACHINE, changes, size_of
from provisioning.sizing import resize_kind
from tenants.models import Tenant

RATES = (API, ROUTED)
UNENFORCED = "Not enforced: the machine's host cannot limit it."
SIMULATED = "Not enforced: the machine is simulated."
_ENFORCED_BY_THE_HOST = {"bandwidth_mbit": "bandwidth"}
"""Quota → the capability that a host needs for it."""


def quotas_of(tenant: Tenant) -> dict[str, Any]:
    """Everything about the quotas of ``tenant``, which the caller has found in their scope."""
    runtime = (
        Runtime.objects.filter(tenant=tenant)
        .exclude(phase=Runtime.Phase.DELETED)
        .select_related("host", "tenant__plan")
        .first()
    )
    return {
        "plan": tenant.plan,
        "runtime": runtime,
        "machine": _machine_rows(tenant, runtime),
        "rates": [_rate_row(tenant, rate) for rate in RATES],
        "pending": changes(size_of(runtime), size_of(tenant.plan)) if runtime else [],
        "restart": runtime is not None and resize_kind(runtime) == Operation.Kind.RESIZE_RESTART,
        "usage_at": runtime.usage_at if runtime else None,
    }


def document(found: dict[str, Any]) -> dict[str, Any]:
    """The same, as the API tells it. Limits are whole numbers in the named unit; null is no limit."""
    return {
        "plan": found["plan"].slug,
        "quotas": [
            {name: row[name] for name in ("name", "unit", "plan", "machine", "used", "enforced")}
            for row in (*found["machine"], *found["rates"])
        ],
        "pending": {
            "changes": [
                {"name": each.quota.name, "has": each.has, "gets": each.gets} for each in found["pending"]
            ],
            "restart": found["restart"],
        },
        "usage_at": found["usage_at"],
    }


def _machine_rows(tenant: Tenant, runtime: Runtime | None) -> list[dict[str, Any]]:
    plan, has = size_of(tenant.plan), size_of(runtime) if runtime else {}
    rows = []
    for quota in MACHINE:
        limit = has.get(quota.name) if runtime else plan[quota.name]
        note = _note(quota.name, limit, runtime.host if runtime else None)
        rows.append(
            {
                "name": quota.name,
                "label": quota.label,
                "unit": quota.unit,
                "plan": plan[quota.name],
                "machine": has.get(quota.name),
                "limit": limit,
                "differs": runtime is not None and has[quota.name] != plan[quota.name],
                "enforced": not note,
                "note": note,
                **_use(quota.name, limit, runtime.usage if runtime else {}),
            }
        )
    return rows


def _use(name: str, limit: int | None, usage: dict[str, int]) -> dict[str, Any]:
    """What is used, in the quota's unit and in words, and its share of the limit in percent, where known."""
    if name == "disk_gib" and "disk_mib" in usage:
        gib = usage["disk_mib"] / 1024
        return {"used": round(gib, 1), "shown": f"{gib:.1f}", "percent": _percent(gib, limit)}
    if name not in usage:
        return {"used": None, "shown": "", "percent": None}
    return {"used": usage[name], "shown": str(usage[name]), "percent": _percent(usage[name], limit)}


def _rate_row(tenant: Tenant, rate: str) -> dict[str, Any]:
    limit, count = getattr(tenant.plan, rate), used(rate, tenant.pk)
    return {
        "name": rate,
        "label": LABELS[rate][0].upper() + LABELS[rate][1:],
        "unit": "a minute",
        "plan": limit,
        "machine": None,
        "limit": limit,
        "enforced": True,
        "used": count,
        "shown": str(count),
        "percent": _percent(count, limit),
    }


def _percent(value: float, limit: int | None) -> int | None:
    return min(100, round(100 * value / limit)) if limit else None


def _note(name: str, limit: int | None, host: Host | None) -> str:
    needs = _ENFORCED_BY_THE_HOST.get(name)
    if needs is None or limit is None or host is None or needs in host.capabilities:
        return ""
    return SIMULATED if host.engine == Host.Engine.TEST else UNENFORCED
