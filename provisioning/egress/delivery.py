"""Has a host's proxy follow what the rows say, and notes what it follows.

Each change makes a new rule document with the next number; what a number means never changes. So two workers,
or a dead one and its successor, can only ever send the same thing, and the keeper obeys the highest number.
"""

import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit.context import SYSTEM
from audit.services import record
from provisioning.driver import DriverError, LibvirtDriver, connect
from provisioning.egress.reports import Report, ReportError, parse
from provisioning.egress.rules import Rules, RulesError, TenantRules
from provisioning.egress.wanted import digest_of, reach, rules_for
from provisioning.models import Host, Runtime
from provisioning.specs import host_spec

SILENCE = timedelta(seconds=60)
SILENT = "The egress keeper has said nothing for a minute. See that it runs: without it nothing gets out."
_POLL_SECONDS = 0.05


class NotInForce(DriverError):
    """The proxy does not follow the newest rules, for all we know; it may a little later."""

    code = "egress_not_in_force"
    retryable = True


class RulesRefused(NotInForce):
    """The keeper would not follow the rules, or they cannot be written; the same again will not help."""

    code = "egress_refused"
    retryable = False


def apply(host_id: uuid.UUID, seconds: float | None = None) -> None:
    """Bring the proxy of a host up to date; nothing to do where there is none.

    What the keeper has refused is not sent again: only a change, or an operation, makes it look anew.

    Raises:
        DriverError: from the driver, or as :func:`confirm`.
    """
    host = Host.objects.get(pk=host_id)
    if host.egress_path:
        with connect(host_spec(host)) as driver:
            confirm(host_id, driver, seconds, again=False)


def confirm(
    host_id: uuid.UUID, driver: LibvirtDriver, seconds: float | None = None, *, again: bool = True
) -> None:
    """Return once the proxy of the host follows what the rows say now.

    Args:
        seconds: how long to wait for it; the setting's if not given.
        again: whether to send once more what the keeper has refused before.

    Raises:
        NotInForce: it does not follow in that time.
        RulesRefused: it will not.
        DriverError: the host cannot be reached.
    """
    deadline = time.monotonic() + (settings.EGRESS_TIMEOUT_SECONDS if seconds is None else seconds)
    report = look(driver)
    while True:
        rules = _issue(host_id, report, again=again)
        again = False
        if not report.follows(rules) and report.refused != rules.generation:
            driver.egress_put(rules.generation, rules.to_bytes())
            report = _wait(driver, rules, deadline)
        note(host_id, report)
        if report.follows(rules):
            _note_reach(host_id, rules, report)
            return
        _complain(host_id, rules, report, late=time.monotonic() > deadline)
        time.sleep(_POLL_SECONDS)


def look(driver: LibvirtDriver) -> Report:
    """The keeper's state.

    Raises:
        NotInForce: it cannot be read.
    """
    try:
        return parse(driver.egress_state())
    except ReportError as error:
        raise NotInForce(str(error)) from None


def note(host_id: uuid.UUID, report: Report) -> None:
    """Write down which rules the keeper says are in force, and its problem."""
    applied = {"egress_applied": report.generation, "egress_applied_at": report.applied_at}
    Host.objects.filter(pk=host_id).update(egress_seen_at=report.seen_at)
    with transaction.atomic():
        newer = Host.objects.filter(pk=host_id).exclude(egress_applied=report.generation).update(**applied)
        if newer:
            record(
                action="egress.rules_applied",
                actor=SYSTEM,
                target=("host", host_id),
                data={"generation": report.generation, "digest": report.digest},
            )
    problem = report.problem or (SILENT if _is_silent(report) else "")
    told = Host.objects.filter(pk=host_id).exclude(egress_problem=problem)
    if not problem:  # a complaint is taken back only once it has followed
        told = told.filter(egress_generation__lte=report.generation)
    told.update(egress_problem=problem)


def _is_silent(report: Report) -> bool:
    """Whether a keeper that once spoke is dead, as far as its clock and ours agree."""
    return report.seen_at is not None and timezone.now() - report.seen_at > SILENCE


def due() -> list[uuid.UUID]:
    """Hosts whose proxy may follow something else than the rows say."""
    return [host.pk for host in Host.objects.exclude(egress_path="") if _is_due(host)]


def _is_due(host: Host) -> bool:
    try:
        rules = rules_for(host, max(host.egress_generation, 1))
    except RulesError:
        return True  # the task says why
    if not rules.tenants and not host.egress_generation:
        return False  # nobody was ever served here
    in_force = host.egress_applied == host.egress_generation and host.egress_digest == digest_of(rules)
    return not in_force or bool(_to_note(host.pk, rules))


def _issue(host_id: uuid.UUID, report: Report, *, again: bool) -> Rules:
    """The rules as they are now, under a number that nothing else ever had."""
    with transaction.atomic():
        host = Host.objects.select_for_update().get(pk=host_id)
        try:
            rules = rules_for(host, max(host.egress_generation, 1))
            known = host.egress_generation > 0 and host.egress_digest == digest_of(rules)
            tried = again and report.refused == rules.generation
            if known and not tried and not _foreign(rules, report):
                return rules
            newest = max(host.egress_generation, report.generation, report.refused)
            rules = replace(rules, generation=newest + 1)
        except RulesError as error:
            raise RulesRefused(f"The proxy's rules cannot be written: {error}") from None
        host.egress_generation, host.egress_digest = rules.generation, digest_of(rules)
        host.save(update_fields=["egress_generation", "egress_digest"])
        record(
            action="egress.rules_issued",
            actor=SYSTEM,
            target=("host", host.pk),
            data={
                "generation": rules.generation,
                "digest": host.egress_digest,
                "runtimes": len(rules.tenants),
            },
        )
        return rules


def _foreign(rules: Rules, report: Report) -> bool:
    """Whether the proxy has seen what this database knows nothing of: it was restored from a copy."""
    same_number = report.generation == rules.generation
    newer = max(report.generation, report.refused) > rules.generation
    return newer or (same_number and report.digest != rules.digest)


def _wait(driver: LibvirtDriver, rules: Rules, deadline: float) -> Report:
    """What the keeper says once it has dealt with ``rules``, or when the time is up."""
    while True:
        report = look(driver)
        if max(report.generation, report.refused) >= rules.generation or time.monotonic() > deadline:
            return report
        time.sleep(_POLL_SECONDS)


def _complain(host_id: uuid.UUID, rules: Rules, report: Report, *, late: bool) -> None:
    if report.refused == rules.generation:
        raise RulesRefused(f"The egress keeper refuses rules {rules.generation}: {report.problem}")
    if late:
        said = f"The egress keeper does not follow rules {rules.generation} yet. See that it runs."
        Host.objects.filter(pk=host_id).update(egress_problem=said)
        raise NotInForce(said)


def _note_reach(host_id: uuid.UUID, rules: Rules, report: Report) -> None:
    """Write down what each guest reaches now, unless newer rules have been made meanwhile."""
    for pk, hosts in _to_note(host_id, rules):
        at = None if hosts is None else report.applied_at or timezone.now()
        Runtime.objects.filter(pk=pk, host__egress_generation=rules.generation).update(
            egress_hosts=hosts or [], egress_at=at
        )


def _to_note(host_id: uuid.UUID, rules: Rules) -> Iterable[tuple[uuid.UUID, list[list[str | int]] | None]]:
    """Runtimes whose row says something else than ``rules``; None: it is not served."""
    wanted: dict[uuid.UUID, TenantRules] = {each.runtime: each for each in rules.tenants}
    rows = Runtime.objects.filter(host=host_id).values_list("pk", "egress_hosts", "egress_at")
    found = []
    for pk, hosts, at in rows:
        now = reach(wanted[pk]) if pk in wanted else None
        if (hosts if at else None) != now:
            found.append((pk, now))
    return found
