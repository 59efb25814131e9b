"""Kill -9 while a runtime is set aside, released or mended: the next worker ends it (rule 11)."""

import signal

import pytest

from audit.context import command
from provisioning.drift.check import check
from provisioning.driver import connect
from provisioning.fleet import audit_fleet
from provisioning.models import Host, Operation, Runtime
from provisioning.services import operation_request
from provisioning.specs import host_spec
from tests.provisioning.workers import drain, let_lease_lapse, run_in_child

pytestmark = [pytest.mark.matrix, pytest.mark.django_db(transaction=True)]
TESTER = command("test")
Kind, State, Phase = Operation.Kind, Operation.State, Runtime.Phase
ENDS = {Kind.QUARANTINE: Phase.QUARANTINED, Kind.RELEASE: Phase.READY, Kind.MEND: Phase.READY}
POINTS = {
    Kind.QUARANTINE: ("step.suspend:before", "domain.suspend:after", "step.cut:before", "domain.cut:after"),
    Kind.RELEASE: (
        *("domain.destroy:after", "step.undefine:after", "step.unegress:after", "filter.undefine:after"),
        *("network.undefine:after", "step.personalise:after", "filter.define:after", "domain.define:after"),
        *("domain.start:after", "step.ready:before"),
    ),
    Kind.MEND: ("step.network:after", "step.filter:before", "step.define:after", "step.settle:after"),
}


def ask(runtime: Runtime, kind: str) -> Operation:
    return operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind, reason="because of a test")


@pytest.mark.parametrize(
    ("kind", "point"), [(kind, point) for kind, all_of in POINTS.items() for point in all_of]
)
def test_whatever_died_the_next_worker_ends_it(
    runtime: Runtime, simulated_host: Host, children_environment: dict[str, str], kind: str, point: str
) -> None:
    """The phase of the table; nothing is lost or left; and no drift but what was there."""
    if kind == Kind.RELEASE:
        drain(ask(runtime, Kind.QUARANTINE))
    asked = ask(runtime, kind)
    assert run_in_child(asked, children_environment, f"{point}=kill") == -signal.SIGKILL, (
        f"{point} not reached"
    )
    let_lease_lapse(asked.pk)
    assert drain(asked).state == State.SUCCEEDED, asked.error_message
    runtime.refresh_from_db()
    assert runtime.phase == ENDS[Kind(kind)]
    with connect(host_spec(simulated_host)) as driver:
        assert driver.power(runtime.pk).value == ("paused" if kind == Kind.QUARANTINE else "running")
    assert check(simulated_host).of_runtimes == {runtime.pk: []}
    assert audit_fleet() == []
