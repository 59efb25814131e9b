"""Rule 1 for every task: what each changes stands beside an entry, and without it there is no change."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.utils import timezone

from audit.context import command
from audit.models import Entry
from portal import refusals
from portal import tasks as portal_tasks
from portal.celery import app
from provisioning import tasks
from provisioning.models import EgressRecord, GuestImage, Host, Operation, Runtime
from provisioning.services import access_close, operation_request
from tenants.models import Tenant, TenantKey
from tenants.services import tenant_key_ensure
from tests.completeness.broken import broken_record
from tests.net import Net
from tests.provisioning.workers import created

TESTER = command("test")
pytestmark = pytest.mark.django_db(transaction=True)
READS = {
    "provisioning.tasks.operations_sweep": "sends tasks; writes nothing",
    "provisioning.tasks.powers_observe": "telemetry: what libvirt shows",
    "provisioning.tasks.usage_observe": "telemetry: what guests say that they use",
    "provisioning.tasks.witness_round": "tests/provisioning/test_witnessing.py, under the same net",
    "provisioning.tasks.witness_guest": "the same",
    "provisioning.tasks.witness_outside": "the same",
    "provisioning.tasks.egress_collect": "telemetry; what got lost is an entry (tests/provisioning/test_egress_records.py)",
    "provisioning.tasks.egress_apply": "tests/provisioning/test_egress_delivery.py, under the same net",
    "provisioning.tasks.trust_apply": "tests/provisioning/test_rotation.py, under the same net",
    "breakglass.tasks.access_sweep": "tests/breakglass/test_delivery.py, under the same net",
    "breakglass.tasks.grant_apply": "the same",
    "breakglass.tasks.receipts_fetch": "the same",
    "breakglass.pushing_tasks.approvers_sweep": "sends tasks; writes nothing",
    "breakglass.pushing_tasks.approvers_apply": "tests/breakglass/test_pushing.py, under the same net",
    "breakglass.notice_tasks.notices_send": "telemetry: what was sent; who is to be told is written with the change",
    "breakglass.notice_tasks.emergency_send": "the same",
    "provisioning.tasks.members_apply": "tests/provisioning/test_members.py, under the same net",
    "provisioning.tasks.secrets_apply": "tests/provisioning/test_connector_secrets.py, under the same net",
}
"""Tasks that decide nothing, or that their own tests run under the net; each with the reason."""


def stop(runtime: Runtime) -> list[Any]:
    return [operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Operation.Kind.STOP).pk]


def close(runtime: Runtime) -> list[Any]:
    access_close(actor=TESTER, runtime_id=runtime.pk)
    return [runtime.pk]


def old_certificate(runtime: Runtime) -> list[Any]:
    Runtime.objects.update(certificate_expires_at=timezone.now() + timedelta(hours=1))
    return []


def old_records(runtime: Runtime) -> list[Any]:
    EgressRecord.objects.create(
        tenant=runtime.tenant, runtime=runtime, at=timezone.now() - timedelta(days=400), host="x", port=443
    )
    return []


def grave_drift(runtime: Runtime) -> list[Any]:
    """The machine is gone from its host."""
    import libvirt

    from provisioning.driver import naming

    assert runtime.host is not None
    connection = libvirt.open(runtime.host.uri)
    domain = connection.lookupByName(naming.domain_name(runtime.pk))
    domain.destroy()
    domain.undefine()
    connection.close()
    return []


def wanted_key(runtime: Runtime) -> list[Any]:
    tenant_key_ensure(runtime.tenant_id)
    TenantKey.objects.update(rotation_wanted=True)
    return [runtime.tenant_id]


def counted(runtime: Runtime) -> list[Any]:
    caches["shared"].set(refusals._counter("strangers"), 3)
    return []


Prepare = Callable[[Runtime], list[Any]]
CASES: dict[str, tuple[Any, Prepare, str]] = {
    "provisioning.tasks.operation_run": (tasks.operation_run, stop, "operation.succeeded"),
    "provisioning.tasks.access_apply": (tasks.access_apply, close, ""),
    "provisioning.tasks.certificates_renew": (
        tasks.certificates_renew,
        old_certificate,
        "runtime.certificate_renewed",
    ),
    "provisioning.tasks.egress_purge": (tasks.egress_purge, old_records, "egress.records_purged"),
    "provisioning.tasks.drift_check": (tasks.drift_check, grave_drift, ""),
    "provisioning.tasks.tenant_key_apply": (tasks.tenant_key_apply, wanted_key, ""),
    "portal.tasks.refusals_count": (portal_tasks.refusals_count, counted, "request.refusals_counted"),
}
"""Tasks that change something: what they are given, and the entry they leave (any, where it is empty)."""


def test_every_task_is_in_a_table() -> None:
    """A new task must say here what entry it leaves, or why none."""
    app.loader.import_default_modules()
    found = {name for name in app.tasks if not name.startswith("celery.")}
    assert found == set(CASES) | set(READS)


def test_a_task_and_its_entry_are_one(
    simulated_host: Host, tenant: Tenant, image: GuestImage, net: Net
) -> None:
    """One machine on the simulated engine, with a real agent; each task twice, first with a broken record."""
    runtime = created(tenant)
    for name in sorted(CASES, key=lambda name: name in {"provisioning.tasks.operation_run"}):
        task, prepare, action = CASES[name]
        given = [str(each) if isinstance(each, uuid.UUID) else each for each in prepare(runtime)]
        net.units.clear()
        with broken_record(), suppress(Exception):
            task(*given)
        assert not any(unit.writes for unit in net.units), (name, net.units)
        Operation.objects.update(lease_until=None, lease_owner=None, not_before=None)
        before = Entry.objects.count()
        net.units.clear()
        with suppress(Exception):
            task(*given)
        fresh = list(Entry.objects.order_by("pk").values_list("action", flat=True)[before:])
        assert fresh, f"{name} did nothing: its case proves nothing"
        assert not action or action in fresh, (name, fresh)
        assert all(unit.actions for unit in net.units), (name, net.units)
