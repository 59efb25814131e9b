"""Putting right what is safe to put right: what `manage.py drift --fix` does."""

import logging

from django.db import transaction

from audit.context import Actor
from audit.services import record
from provisioning import machine
from provisioning.drift.check import Report
from provisioning.drift.findings import Severity
from provisioning.driver import DriverError, connect
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
    done = (
        [_mend_host(report.host, actor)] if any(f.severity is Severity.MEND for f in report.of_host) else []
    )
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


def _mend_host(host: Host, actor: Actor) -> str:
    with transaction.atomic():
        record(action="host.mending", actor=actor, target=("host", host.pk), data={"what": "pool"})
    try:
        with connect(host_spec(host)) as driver:
            driver.ensure_pool()
    except DriverError as error:
        return f"{host}: {error.message}"
    return f"{host}: the storage pool runs, and starts with the host"


def _mend_runtime(runtime: Runtime, actor: Actor) -> str:
    try:
        asked = operation_request(actor=actor, runtime_id=runtime.pk, kind=Operation.Kind.MEND)
    except OperationRefused as refusal:
        return f"{runtime}: {' '.join(refusal.messages)}"
    machine.run(asked.pk)
    asked.refresh_from_db()
    return f"{runtime}: {asked.error_message or asked.wait_reason or 'mended'}"
