"""The fleet audit: what the database says against what hosts show, in both directions."""

import uuid
from dataclasses import dataclass

from provisioning.driver import DriverError, Inventory, Power, connect
from provisioning.egress import delivery
from provisioning.egress.reports import Report
from provisioning.models import Host, Operation, Runtime
from provisioning.specs import host_spec

KINDS = ("domains", "networks", "filters", "volumes", "personalisations", "secrets")

LASTING = tuple(kind for kind in KINDS if kind != "secrets")
"""A secret is in libvirtd's memory only; after a restart of libvirtd the next start gives it again."""


@dataclass(frozen=True)
class Finding:
    """Something that is on one side only."""

    host: str
    kind: str
    subject: str
    problem: str


def audit_fleet() -> list[Finding]:
    """Findings over all hosts; empty when both sides agree. Reads only.

    Runtimes with an operation under way are left out: their objects are just being made or removed.
    """
    findings: list[Finding] = []
    busy = set(Operation.objects.filter(state__in=Operation.ACTIVE).values_list("runtime_id", flat=True))
    for host in Host.objects.all():
        try:
            with connect(host_spec(host)) as driver:
                inventory, powers = driver.inventory(), driver.powers()
                report = delivery.look(driver) if host.egress_path else None
        except DriverError as error:
            findings.append(Finding(host.name, "host", host.uri, error.message))
            continue
        runtimes = {r.pk: r for r in Runtime.objects.filter(host=host) if r.pk not in busy}
        findings += _orphans(host, inventory, busy, runtimes)
        findings += _missing(host, inventory, runtimes, powers)
        if report is not None:
            findings += _egress(host, report, busy, runtimes)
    return findings + _database_only(busy)


def _orphans(
    host: Host, inventory: Inventory, busy: set[uuid.UUID], runtimes: dict[uuid.UUID, Runtime]
) -> list[Finding]:
    found = [
        Finding(host.name, kind, str(runtime_id), "on the host, but no runtime owns it")
        for kind in KINDS
        for runtime_id in sorted(getattr(inventory, kind))
        if runtime_id not in busy and runtime_id not in runtimes
    ]
    return found + [
        Finding(host.name, "domains", name, "looks like a runtime, but no fleet made it")
        for name in sorted(inventory.unknown_domains)
    ]


def _missing(
    host: Host, inventory: Inventory, runtimes: dict[uuid.UUID, Runtime], powers: dict[uuid.UUID, Power]
) -> list[Finding]:
    found = []
    for runtime in runtimes.values():
        if runtime.first_ready_at is None or runtime.phase in {"failed", "deleted"}:
            continue
        for kind in LASTING:
            if runtime.pk not in getattr(inventory, kind):
                found.append(
                    Finding(host.name, kind, str(runtime.pk), "in the database, but not on the host")
                )
        if runtime.phase == "ready" and powers.get(runtime.pk) != Power.RUNNING:
            found.append(Finding(host.name, "power", str(runtime.pk), "should be running, but is not"))
    return found


def _egress(
    host: Host, report: Report, busy: set[uuid.UUID], runtimes: dict[uuid.UUID, Runtime]
) -> list[Finding]:
    """Whom the proxy serves against whom it should serve, and what its keeper complains of."""
    wanted = {pk for pk, runtime in runtimes.items() if runtime.egress}
    found = [
        Finding(host.name, "egress", str(pk), "served by the proxy, but should not be")
        for pk in sorted(report.serving - wanted - busy)
    ]
    found += [
        Finding(host.name, "egress", str(pk), "should be served by the proxy, but is not")
        for pk in sorted(wanted - report.serving)
    ]
    if report.problem:
        found.append(Finding(host.name, "egress", host.egress_path, report.problem))
    return found


def _database_only(busy: set[uuid.UUID]) -> list[Finding]:
    leaked = Runtime.objects.filter(phase__in=["pending", "deleted"], reserved=True).exclude(pk__in=busy)
    spare = (
        Runtime.objects.exclude(spare_vcpus=0, spare_memory_mib=0, spare_disk_gib=0)
        .exclude(pk__in=busy)
        .exclude(pk__in=leaked)
    )
    slots = Operation.objects.filter(holds_slot=True).exclude(state__in=Operation.ACTIVE)
    return [Finding("-", "quota", str(r.pk), "holds quota that nobody uses") for r in (*leaked, *spare)] + [
        Finding("-", "slot", str(o.pk), "holds a start slot after its end") for o in slots
    ]
