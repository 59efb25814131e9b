"""What Celery runs. A task carries ids, never data; whether there is work is the database's word."""

import logging
import uuid

from celery import shared_task
from django.conf import settings

from audit.context import SYSTEM
from provisioning import (
    access,
    connector_secrets,
    machine,
    members,
    observation,
    renewal,
    trust,
    usage,
    witnessing,
)
from provisioning.drift.check import check
from provisioning.driver import DriverError
from provisioning.egress import collecting, delivery
from provisioning.models import Host
from provisioning.runtime_client import AgentRefused, AgentUnreachable
from tenants.selectors import current_key, keys_due
from tenants.services import tenant_key_ensure, tenant_key_rotate

log = logging.getLogger(__name__)
EGRESS_PATIENCE_SECONDS = 4.0
"""How long a task waits for a keeper: less than the sweeper's pace, so that a dead one holds nobody up."""


@shared_task(name="provisioning.tasks.operation_run")
def operation_run(operation_id: str) -> None:
    """Advance one operation. A duplicate of a task finds the lease taken and does nothing."""
    machine.run(uuid.UUID(operation_id))


@shared_task(name="provisioning.tasks.operations_sweep")
def operations_sweep() -> None:
    """Send again what is due and held by nobody: lost messages, dead workers, waits that are over."""
    for operation_id in machine.due():
        operation_run.delay(str(operation_id))
    for runtime_id in access.unconfirmed().values_list("pk", flat=True):
        access_apply.delay(str(runtime_id))
    for runtime_id in trust.unconfirmed().values_list("pk", flat=True):
        trust_apply.delay(str(runtime_id))
    for runtime_id in members.unconfirmed().values_list("pk", flat=True):
        members_apply.delay(str(runtime_id))
    for runtime_id in connector_secrets.due().values_list("pk", flat=True):
        secrets_apply.delay(str(runtime_id))
    for host_id in delivery.due():
        # One that waits behind others is not worth sending twice.
        egress_apply.apply_async((str(host_id),), expires=2 * settings.SWEEP_SECONDS)
    for tenant_id in keys_due().values_list("pk", flat=True):
        tenant_key_apply.delay(str(tenant_id))


@shared_task(name="provisioning.tasks.access_apply")
def access_apply(runtime_id: str) -> None:
    """Close or reopen a guest's content routes as the row says; the sweeper repeats what failed."""
    try:
        access.apply(uuid.UUID(runtime_id))
    except (AgentUnreachable, AgentRefused, DriverError) as error:
        log.warning("runtime %s: access not confirmed: %s", runtime_id, error)


@shared_task(name="provisioning.tasks.trust_apply")
def trust_apply(runtime_id: str) -> None:
    """Tell a guest whom of the control plane to believe; the sweeper repeats what failed."""
    try:
        trust.apply(uuid.UUID(runtime_id))
    except (AgentUnreachable, AgentRefused, DriverError) as error:
        log.warning("runtime %s: trust not confirmed: %s", runtime_id, error)


@shared_task(name="provisioning.tasks.members_apply")
def members_apply(runtime_id: str) -> None:
    """Deliver the keyring and consents that a guest lacks; the sweeper repeats what failed."""
    try:
        members.apply(uuid.UUID(runtime_id))
    except (AgentUnreachable, AgentRefused, DriverError) as error:
        log.warning("runtime %s: keyring and consents not delivered: %s", runtime_id, error)


@shared_task(name="provisioning.tasks.secrets_apply")
def secrets_apply(runtime_id: str) -> None:
    """Request the delivery of secrets that wait; the sweeper repeats it while some do."""
    connector_secrets.apply(uuid.UUID(runtime_id))


@shared_task(name="provisioning.tasks.tenant_key_apply")
def tenant_key_apply(tenant_id: str) -> None:
    """Make the key that a tenant lacks, or the next one that somebody has asked for."""
    tenant = keys_due().filter(pk=tenant_id).first()
    if tenant is None:
        return
    if current_key(tenant.pk) is None:
        tenant_key_ensure(tenant.pk)
    else:
        tenant_key_rotate(actor=SYSTEM, tenant=tenant)


@shared_task(name="provisioning.tasks.egress_apply")
def egress_apply(host_id: str) -> None:
    """Have a host's proxy follow the rows as they are now; the sweeper repeats what failed."""
    try:
        delivery.apply(uuid.UUID(host_id), EGRESS_PATIENCE_SECONDS)
    except DriverError as error:
        log.warning("host %s: rules not in force: %s", host_id, error)


@shared_task(name="provisioning.tasks.egress_collect")
def egress_collect() -> None:
    """Take over what the proxies recorded, and what their keepers say of themselves."""
    for host in Host.objects.exclude(egress_path=""):
        try:
            collecting.collect(host)
        except DriverError as error:
            log.warning("host %s: records not read: %s", host.pk, error)
        except Exception as error:  # what one keeper says must not keep the others' from being read
            log.error("host %s: records not read: %s", host.pk, type(error).__name__)


@shared_task(name="provisioning.tasks.egress_purge")
def egress_purge() -> None:
    """Delete records of outside connections that are past their time, or too many."""
    collecting.purge()


@shared_task(name="provisioning.tasks.powers_observe")
def powers_observe() -> None:
    """Ask each host which of our guests run."""
    for host in Host.objects.all():
        observation.observe(host)


@shared_task(name="provisioning.tasks.drift_check")
def drift_check() -> None:
    """Look at every host, and set aside at once what is gravely wrong."""
    for host in Host.objects.all():
        for operation_id in check(host).operations:
            machine.run(operation_id)


@shared_task(name="provisioning.tasks.usage_observe")
def usage_observe() -> None:
    """Ask each guest what it uses."""
    usage.observe_all()


@shared_task(name="provisioning.tasks.witness_round")
def witness_round() -> None:
    """Have every witness asked to sign the log's newest checkpoint."""
    witnessing.retire_gone()
    guests, outside = witnessing.due()
    for runtime_id in guests:
        witness_guest.apply_async((str(runtime_id),), expires=2 * settings.WITNESS_SECONDS)
    for witness_id in outside:
        witness_outside.apply_async((witness_id,), expires=2 * settings.WITNESS_SECONDS)


@shared_task(name="provisioning.tasks.witness_guest")
def witness_guest(runtime_id: str) -> None:
    """Ask one guest to sign the log's newest checkpoint; the next round repeats what failed."""
    witnessing.ask_guest(uuid.UUID(runtime_id))


@shared_task(name="provisioning.tasks.witness_outside")
def witness_outside(witness_id: int) -> None:
    """Ask one witness outside to sign the log's newest checkpoint; the next round repeats what failed."""
    witnessing.ask_outside(witness_id)


@shared_task(name="provisioning.tasks.certificates_renew")
def certificates_renew() -> None:
    """Renew the guests' certificates that are past half their life."""
    renewal.renew_certificates()
