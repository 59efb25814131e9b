"""Kill -9 at every instant: after it, the next worker finishes the job or cleans up entirely (rule 11).

Each case runs an operation in a process that is armed to kill itself at one point, then lets the lease lapse
and lets a second worker go on. The points are every step's beginning and end, and before, during and after
every call that changes the host.
"""

import signal

import pytest
from django.contrib.auth.models import User

from audit.context import Actor, command
from protocol.sealed import key_id, seal
from provisioning.driver import connect
from provisioning.egress.delivery import look
from provisioning.fleet import audit_fleet
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.sequences import SEQUENCES
from provisioning.services import operation_cancel, operation_request, runtime_create
from provisioning.specs import host_spec
from tenants.models import Tenant
from tenants.services import secret_put
from tests.provisioning.workers import drain, let_lease_lapse, run_in_child

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True)]
TESTER = command("test")
Kind, State, Phase = Operation.Kind, Operation.State, Runtime.Phase

MAKING = [
    "pool.define",
    "pool.build",
    "pool.start",
    "volume.create",
    "network.define",
    "network.start",
    "egress.define",
    "egress.start",
    "egress.autostart",
    "egress.create",
    "egress.upload",
    "domain.define",
    "domain.start",
    "agent.launch",
]
REMOVING = [
    "volume.delete",
    "network.stop",
    "network.undefine",
    "domain.undefine",
    "domain.destroy",
    "agent.stop",
    "egress.create",
    "egress.upload",
]


def steps(kind: str, prefix: str = "step") -> list[str]:
    names = [p.name for p in SEQUENCES[kind] if prefix == "step" or p.undone]
    return [f"{prefix}.{name}:{when}" for name in names for when in ("before", "after")]


def calls(names: list[str]) -> list[str]:
    return [f"{name}:{when}" for name in names for when in ("before", "during", "after")]


def killed_at(operation: Operation, environment: dict[str, str], point: str) -> None:
    """Run in a child that dies at ``point``. A point that is never reached proves nothing, so it fails."""
    assert run_in_child(operation, environment, f"{point}=kill") == -signal.SIGKILL, (
        f"{point} was not reached"
    )
    let_lease_lapse(operation.pk)


def left_on(host: Host) -> set[object]:
    """Every object of a runtime, and every way out."""
    with connect(host_spec(host)) as driver:
        found, served = driver.inventory(), look(driver).serving
    return set().union(
        *(found.domains, found.networks, found.filters, found.volumes),
        *(found.personalisations, found.secrets, served),
    )


@pytest.mark.parametrize("point", steps(Kind.CREATE) + calls(MAKING))
def test_creation_is_finished_by_the_next_worker(
    point: str, simulated_host: Host, tenant: Tenant, image: GuestImage, children_environment: dict[str, str]
) -> None:
    """Whatever died, the runtime becomes ready, once, and both sides agree."""
    operation = runtime_create(actor=TESTER, tenant=tenant)
    killed_at(operation, children_environment, point)
    assert drain(operation).state == State.SUCCEEDED, operation.error_message
    assert Runtime.objects.get().phase == Phase.READY
    assert audit_fleet() == []


@pytest.mark.parametrize("point", steps(Kind.DELETE) + calls(REMOVING))
def test_deletion_is_finished_by_the_next_worker(
    point: str, simulated_host: Host, tenant: Tenant, image: GuestImage, children_environment: dict[str, str]
) -> None:
    """Nothing is left on the host, and nothing is reserved."""
    drain(runtime_create(actor=TESTER, tenant=tenant))
    runtime = Runtime.objects.get()
    operation = operation_request(
        actor=TESTER, runtime_id=runtime.pk, kind=Kind.DELETE, reason="because of a test"
    )
    killed_at(operation, children_environment, point)
    assert drain(operation).state == State.SUCCEEDED
    assert left_on(simulated_host) == set()
    assert audit_fleet() == []


@pytest.mark.parametrize("point", steps(Kind.CREATE, "undo"))
def test_undoing_is_finished_by_the_next_worker(
    point: str, simulated_host: Host, tenant: Tenant, image: GuestImage, children_environment: dict[str, str]
) -> None:
    """A creation whose guest never enrols is undone, and a kill while undoing changes nothing of that."""
    operation = runtime_create(actor=TESTER, tenant=tenant)
    run_in_child(operation, children_environment, "step.enrol:before=kill")
    let_lease_lapse(operation.pk)
    operation_cancel(actor=TESTER, operation_id=operation.pk)
    killed_at(operation, children_environment, point)
    assert drain(operation).state == State.CANCELLED
    runtime = Runtime.objects.get()
    assert (runtime.phase, runtime.reserved, runtime.host) == (Phase.PENDING, False, None)
    assert left_on(simulated_host) == set()


@pytest.mark.parametrize("point", [*steps(Kind.STOP), "domain.shutdown:before", "domain.shutdown:after"])
def test_stopping_is_finished_by_the_next_worker(
    point: str, simulated_host: Host, tenant: Tenant, image: GuestImage, children_environment: dict[str, str]
) -> None:
    """The runtime is stopped and keeps its volume."""
    drain(runtime_create(actor=TESTER, tenant=tenant))
    runtime = Runtime.objects.get()
    operation = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.STOP)
    killed_at(operation, children_environment, point)
    assert drain(operation).state == State.SUCCEEDED
    assert Runtime.objects.get().phase == Phase.STOPPED
    assert audit_fleet() == []


@pytest.mark.parametrize("kind", [Kind.DELIVER, Kind.RESEAL])
@pytest.mark.parametrize("when", ["before", "after"])
def test_delivery_is_finished_by_the_next_worker(
    kind: str,
    when: str,
    simulated_host: Host,
    tenant: Tenant,
    owner: User,
    image: GuestImage,
    children_environment: dict[str, str],
) -> None:
    """The guest holds the secret, has one key, and runs as before. Instants between the calls to the guest:
    tests/provisioning/test_sealing_key.py."""
    drain(runtime_create(actor=TESTER, tenant=tenant))
    runtime = Runtime.objects.get()
    key = bytes.fromhex(runtime.sealing_public_key)
    for planned in SEQUENCES[kind]:
        secret_put(
            actor=Actor.of(owner),
            tenant=tenant,
            name=f"AT_{planned.name.upper()}",
            connector="github",
            sealing_key=key_id(key),
            sealed=seal(key, b"value"),
        )
        operation = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind)
        killed_at(operation, children_environment, f"step.{planned.name}:{when}")
        assert Runtime.objects.get().phase == Phase.READY
        assert drain(operation).state == State.SUCCEEDED
        key = bytes.fromhex(Runtime.objects.get().sealing_public_key)
    assert set(tenant.connector_secrets.values_list("state", flat=True)) == {"held"}
    assert audit_fleet() == []
