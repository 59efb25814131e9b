"""The periodic check: looks at a host, writes down what is wrong, and sets aside what is gravely wrong.

It takes no operation's place. A runtime that an operation is changing, or has changed while we looked, is
left out; what is found goes into the database in one transaction with its entries and with the operation that
follows.
"""

import logging
import uuid
from dataclasses import dataclass, field

from django.db import transaction
from django.utils import timezone

from audit.context import SYSTEM
from provisioning.drift import machine, surroundings
from provisioning.drift.findings import Finding, Severity, finding
from provisioning.drift.machine import Wishes
from provisioning.drift.proxy import of_proxy
from provisioning.drift.records import keep
from provisioning.driver import (
    Conflict,
    DriverError,
    HostSpec,
    HostUnreachable,
    LibvirtDriver,
    Power,
    RuntimeSpec,
    Shown,
    User,
    connect,
    naming,
    xml,
)
from provisioning.egress import delivery
from provisioning.models import Host, Operation, Runtime, Told
from provisioning.services import OperationRefused, operation_request
from provisioning.specs import SealBroken, host_spec, runtime_spec

log = logging.getLogger(__name__)
LOOKED_AT = (
    Runtime.Phase.READY,
    Runtime.Phase.STOPPED,
    Runtime.Phase.FAILED,
    Runtime.Phase.QUARANTINED,
)


@dataclass
class Report:
    """What a check of one host found."""

    host: Host
    problem: str = ""
    """Why the host could not be looked at; then nothing was found, and nothing is cleared."""
    of_host: list[Finding] = field(default_factory=list)
    of_runtimes: dict[uuid.UUID, list[Finding]] = field(default_factory=dict)
    operations: list[uuid.UUID] = field(default_factory=list)
    """What was asked for in consequence."""


def check(host: Host) -> Report:
    """Look at ``host``, write down what was found, and ask for quarantines. Reads of the host only."""
    before = _moments(host)
    report = look(host, list(before))
    if report.problem:
        log.warning("host %s could not be checked for drift: %s", host.name, report.problem)
        return report
    _warn(host.name, keep(host, None, report.of_host))
    Host.objects.filter(pk=host.pk).update(drift_checked_at=timezone.now())
    for gone in Runtime.objects.filter(drift__host=host, drift__cleared_at=None, phase=Runtime.Phase.DELETED):
        keep(host, gone, [])
    for runtime_id, found in report.of_runtimes.items():
        with transaction.atomic():
            runtime = Runtime.objects.select_for_update().get(pk=runtime_id)
            if _moment(runtime) != before[runtime_id]:
                continue  # an operation came between: what we saw may be its work, half done
            Runtime.objects.filter(pk=runtime.pk).update(drift_looked_at=timezone.now())
            new = keep(host, runtime, found)
            if asked := _quarantine(runtime, found):
                report.operations.append(asked)
        _warn(str(runtime), new)
    return report


def look(host: Host, runtime_ids: list[uuid.UUID]) -> Report:
    """The same without writing anything."""
    report = Report(host)
    runtimes = list(Runtime.objects.filter(pk__in=runtime_ids).select_related("image", "host"))
    told = {each.runtime_id: each for each in Told.objects.filter(runtime__in=runtimes)}
    try:
        with connect(host_spec(host)) as driver:
            report.of_host = of_host(driver) + _of_proxy(driver, host)
            ours, users = _names(host), driver.users()
            taps = frozenset(tap for each in users if each.name in ours for tap in each.taps)
            others = [each for each in users if each.name not in ours]
            for runtime in runtimes:
                known = told.get(runtime.pk)
                report.of_runtimes[runtime.pk] = _looked_at(driver, runtime, known, others, taps)
    except DriverError as error:
        report.problem = error.message
    return report


def _names(host: Host) -> set[str]:
    """How the machines of the host's runtimes are called."""
    return {naming.domain_name(pk) for pk in Runtime.objects.filter(host=host).values_list("pk", flat=True)}


def _looked_at(
    driver: LibvirtDriver, runtime: Runtime, told: Told | None, users: list[User], taps: frozenset[str]
) -> list[Finding]:
    """One runtime's findings. What cannot be read of it is one of them, and keeps no other from being seen.

    Raises:
        HostUnreachable: the host is gone meanwhile.
    """
    try:
        spec = runtime_spec(runtime)
        strangers = surroundings.others(driver.host, spec, users)
        return of_runtime(driver, runtime, spec, told, taps) + strangers
    except SealBroken as error:
        return [finding("unreadable", error.message)]
    except HostUnreachable:
        raise
    except Conflict as error:
        return [finding("mark", error.message), finding("unreadable", error.message)]
    except DriverError as error:
        return [finding("unreadable", error.message)]
    except Exception as error:
        log.exception("%s could not be checked for drift", runtime)
        return [finding("unreadable", f"Internal fault ({type(error).__name__}).")]


def _of_proxy(driver: LibvirtDriver, host: Host) -> list[Finding]:
    """Of the egress proxy, unless rules were made while we looked, or an operation is about to make some."""
    if not host.egress_path:
        return []
    before = Host.objects.get(pk=host.pk)
    try:
        said = delivery.look(driver)
    except delivery.NotInForce as error:
        return [finding("proxy", error.message)]
    after = Host.objects.get(pk=host.pk)
    busy = Operation.objects.filter(runtime__host=host, state__in=Operation.ACTIVE).exists()
    if busy or before.egress_generation != after.egress_generation:
        return []
    return of_proxy(after, said, timezone.now())


def of_host(driver: LibvirtDriver) -> list[Finding]:
    """Pool and kernel."""
    shown = driver.show_host()
    found = []
    if shown.pool_path is not None and shown.pool_path != driver.host.pool_path:
        found.append(finding("pool_elsewhere", shown.pool_path))
    elif shown.pool_path is not None and not (shown.pool_running and shown.pool_autostart):
        found.append(finding("pool_down"))
    if shown.bridge_rules is False:
        found.append(finding("bridge_rules_off"))
    return found


def of_runtime(
    driver: LibvirtDriver, runtime: Runtime, spec: RuntimeSpec, told: Told | None, taps: frozenset[str]
) -> list[Finding]:
    """Everything about one runtime, as the host shows it now."""
    shown = driver.show(spec.runtime_id)
    found = judged(shown, driver.host, spec, told, taps)
    if runtime.phase != Runtime.Phase.QUARANTINED:
        return found
    # Unplugged it is because we did that.
    found = [each for each in found if each.code not in {"link", "machine_outdated"}]
    return found if machine.is_set_aside(shown) else [*found, finding("not_set_aside", shown.power.value)]


def judged(
    shown: Shown,
    host: HostSpec,
    spec: RuntimeSpec,
    told: Told | None,
    taps: frozenset[str] = frozenset(),
) -> list[Finding]:
    """What is shown against what was told, without duplicates."""
    if shown.power is Power.ABSENT and told is None and shown.volume is None:
        return [finding("machine_missing", running=False)]
    today = xml.domain(host, spec)
    # Never what was last defined: a machine that was up before anybody took notes has never run as that.
    running = Wishes(today, told.running if told else "")
    defined = Wishes(today, told.machine if told else "")
    rules = Wishes(xml.packet_filter(host, spec), told.filter if told else "")
    network = Wishes(xml.network(host, spec), told.network if told else "")
    bridge = naming.bridge_name(host.fleet, spec.network_index)
    return sorted(
        {
            *machine.judge(shown, running, defined, bridge),
            *surroundings.judge(shown, host, spec, rules, network, taps),
        }
    )


def _moments(host: Host) -> dict[uuid.UUID, tuple[object, ...]]:
    """The runtimes to look at, each with what tells whether an operation has come since."""
    chosen = Runtime.objects.filter(host=host, phase__in=LOOKED_AT).exclude(first_ready_at=None)
    idle = chosen.exclude(operations__state__in=Operation.ACTIVE)
    return {runtime.pk: _moment(runtime) for runtime in idle}


def _moment(runtime: Runtime) -> tuple[object, ...]:
    last = runtime.operations.order_by("-created_at", "-pk").values_list("pk", "state").first()
    return runtime.phase, runtime.host_id, runtime.image_id, last


def _quarantine(runtime: Runtime, found: list[Finding]) -> uuid.UUID | None:
    """Ask for the runtime to be set aside, if something grave was found and it is not set aside already."""
    grave = [each for each in found if each.severity is Severity.QUARANTINE]
    aside = runtime.phase == Runtime.Phase.QUARANTINED
    if not grave or (aside and all(each.code != "not_set_aside" for each in grave)):
        return None
    told = "; ".join(f"{each.words} {each.detail}".strip() for each in grave)
    try:
        asked = operation_request(
            actor=SYSTEM, runtime_id=runtime.pk, kind=Operation.Kind.QUARANTINE, reason=f"Drift: {told}"[:500]
        )
    except OperationRefused as refusal:
        log.error("%s could not be quarantined: %s", runtime, " ".join(refusal.messages))
        return None
    return asked.pk


def _warn(subject: str, new: list[Finding]) -> None:
    """Tell the log of what was not known before."""
    for each in new:
        grave = each.severity in {Severity.QUARANTINE, Severity.ALERT}
        log.log(
            logging.ERROR if grave else logging.WARNING,
            "drift: %s: %s %s (%s)",
            subject,
            each.words,
            each.detail,
            each.severity.value,
        )
