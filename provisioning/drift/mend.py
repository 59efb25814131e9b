"""Putting right what is safe to put right: what `manage.py drift --fix` does."""

import logging
from collections.abc import Callable

from django.db import transaction

from audit.context import Actor
from audit.services import record
from provisioning import machine
from provisioning.drift.check import Report
from provisioning.drift.findings import Severity
from provisioning.driver import DriverError, connect
from provisioning.egress import delivery
from provisioning.models import Host, Operation, Runtime
from provisioning.services import OperationRefused, operation_request
from provisioning.specs import host_spec

log = logging.getLogger(__name__)


def mend(report: Report, actor: Actor) -> list[str]:
    """Carry out what ``report`` calls for; what was done, in words.

    A runtime's mending is an operation: it takes the lease that every change takes, and gives way to people.
    One that is stopped is put right by its next start. What is grave is never mended, only set aside, and
    nothing is ever deleted.
    """
    codes = {each.code for each in report.of_host if each.severity is Severity.MEND}
    done = [_mend_host(report.host, code, actor) for code in sorted(codes)]
    for runtime_id, found in report.of_runtimes.items():
        runtime = Runtime.objects.get(pk=runtime_id)
        severities = {each.severity for each in found}
        if Severity.MEND not in severities or Severity.QUARANTINE in severities:
            continue
        if runtime.phase != Runtime.Phase.READY:
            done.append(f"{runtime}: is put right by its next start")
            continue
        done.append(_mend_runtime(runtime, actor))
    return done


def _mend_host(host: Host, code: str, actor: Actor) -> str:
    with transaction.atomic():
        record(action="host.mending", actor=actor, target=("host", host.pk), data={"code": code})
    try:
        _OF_HOST[code](host)
    except DriverError as error:
        return f"{host}: {error.message}"
    return f"{host}: mended ({code})"


def _start_pool(host: Host) -> None:
    with connect(host_spec(host)) as driver:
        driver.ensure_pool()


def _update_proxy(host: Host) -> None:
    delivery.apply(host.pk)


_OF_HOST: dict[str, Callable[[Host], None]] = {"pool_down": _start_pool, "proxy_behind": _update_proxy}


def _mend_runtime(runtime: Runtime, actor: Actor) -> str:
    try:
        asked = operation_request(actor=actor, runtime_id=runtime.pk, kind=Operation.Kind.MEND)
    except OperationRefused as refusal:
        return f"{runtime}: {' '.join(refusal.messages)}"
    machine.run(asked.pk)
    asked.refresh_from_db()
    return f"{runtime}: {asked.error_message or asked.wait_reason or 'mended'}"
