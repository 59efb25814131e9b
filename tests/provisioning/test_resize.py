"""Applying a plan to a machine: what it takes, what it leaves, and that it comes back whole when it fails."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from audit.context import Actor, command
from audit.models import Entry
from protocol.enrolment import Personalisation
from provisioning import machine
from provisioning.driver import DriverError, HostBusy, HostUnreachable, connect
from provisioning.driver.marks import parse
from provisioning.driver.types import CallFailed, Conflict, ImageCorrupt, ImageMissing, NoSpace, Unsupported
from provisioning.egress.delivery import NotInForce, RulesRefused
from provisioning.enrolment import personalisation
from provisioning.fleet import audit_fleet
from provisioning.models import Host, Operation, Runtime
from provisioning.quotas import size_of
from provisioning.selectors import reserved_on
from provisioning.sequences import SEQUENCES
from provisioning.services import (
    OperationRefused,
    PermissionRefused,
    operation_cancel,
    operation_request,
    plan_change,
)
from provisioning.specs import SealBroken, host_spec
from tenants.models import Plan, Tenant
from tenants.services import TenantError, plan_save
from tests.provisioning.workers import drain, let_lease_lapse, move, run_in_child

pytestmark = pytest.mark.django_db(transaction=True)
TESTER = command("test")
Kind, State, Phase = Operation.Kind, Operation.State, Runtime.Phase
LIVE = {"cpu_percent": 40, "iops": 300, "bandwidth_mbit": 8, "disk_gib": 2}
COLD = {"vcpus": 2, "memory_mib": 1024, "processes": 300, "jobs_running": 4, "jobs_waiting": 30}


@pytest.fixture
def make_plan(plan: Plan) -> Callable[..., Plan]:
    def make(slug: str = "other", **more: Any) -> Plan:
        given = {**size_of(plan), "cost_floor_cents": 4900, **more}
        return plan_save(actor=TESTER, plan=Plan(slug=slug, name=slug.title(), **given))

    return make


def change(runtime: Runtime, plan: Plan, *, restart: bool = False, price: int = 9000) -> Operation:
    found = plan_change(actor=TESTER, tenant=runtime.tenant, plan=plan, price_cents=price, restart=restart)
    assert found is not None
    return found


def definition(runtime: Runtime) -> dict[str, str | None]:
    """What libvirt has of the machine, for its next start."""
    import libvirt

    with connect(host_spec(Host.objects.get())) as driver:
        domain = driver._conn.lookupByUUIDString(str(runtime.pk))
        root = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        return {
            "vcpus": root.findtext("vcpu"),
            "memory": root.findtext("memory"),
            "quota": root.findtext("cputune/quota"),
            "iops": root.findtext("devices/disk/iotune/total_iops_sec"),
            "disk": str(driver.volume_gib(runtime.pk)),
        }


def tuned(runtime: Runtime) -> Any:
    assert runtime.host is not None
    path = Path(runtime.host.pool_path) / "tuning" / str(runtime.pk)
    return json.loads(path.read_text()) if path.exists() else None


def agent_pid(runtime: Runtime) -> str:
    """Which process is the guest: another one after a restart."""
    assert runtime.host is not None
    return (Path(runtime.host.pool_path) / "agents" / str(runtime.pk) / "pid").read_text()


def told(runtime: Runtime) -> Any:
    return Personalisation.from_bytes(personalisation(runtime, None).to_bytes()).limits


def settled(runtime: Runtime, phase: str = Phase.READY) -> Runtime:
    """As it should be when nothing goes on: right phase, nothing spare, both sides agree."""
    runtime.refresh_from_db()
    assert runtime.phase == phase
    assert (runtime.spare_vcpus, runtime.spare_memory_mib, runtime.spare_disk_gib) == (0, 0, 0)
    assert audit_fleet() == []
    return runtime


def test_what_can_change_at_once_does(runtime: Runtime, make_plan: Callable[..., Plan]) -> None:
    """Caps and disk, with the guest running all the time and its phase ready."""
    before = agent_pid(runtime)
    operation = change(runtime, make_plan(**LIVE))
    assert operation.kind == Kind.RESIZE
    assert Runtime.objects.get().phase == Phase.READY
    assert drain(operation).state == State.SUCCEEDED, operation.error_message
    runtime = settled(runtime)
    assert {name: getattr(runtime, name) for name in LIVE} == LIVE
    assert tuned(runtime) == {"cpu_percent": 40, "iops": 300, "bandwidth_mbit": 8}
    now = definition(runtime)
    assert (now["quota"], now["iops"], now["disk"]) == ("40000", "300", "2")
    assert agent_pid(runtime) == before, "nobody was interrupted"


def test_what_needs_a_restart_is_refused_without_one(
    runtime: Runtime, make_plan: Callable[..., Plan]
) -> None:
    """In words that say what differs; the tenant's plan stays, too."""
    with pytest.raises(OperationRefused, match=r"needs a restart.*Memory: 512 → 1024"):
        change(runtime, make_plan(**COLD))
    runtime.refresh_from_db()
    assert runtime.tenant.plan.slug == "small"
    assert not runtime.operations.filter(kind__startswith="resize").exists()


def test_a_restart_gives_everything(runtime: Runtime, make_plan: Callable[..., Plan]) -> None:
    """The definition, the volume, and what the guest's papers say."""
    before = agent_pid(runtime)
    operation = change(runtime, make_plan(**LIVE, **COLD), restart=True)
    assert operation.kind == Kind.RESIZE_RESTART
    assert Runtime.objects.get().phase == Phase.PROVISIONING
    assert drain(operation).state == State.SUCCEEDED, operation.error_message
    runtime = settled(runtime)
    assert size_of(runtime) == size_of(Plan.objects.get(slug="other"))
    now = definition(runtime)
    assert (now["vcpus"], now["memory"], now["disk"]) == ("2", str(1024 * 1024), "2")
    limits = told(runtime)
    assert (limits.memory_mib, limits.processes, limits.jobs_running) == (1024, 300, 4)
    assert agent_pid(runtime) != before


def test_a_stopped_machine_takes_all_at_its_next_start(
    runtime: Runtime, make_plan: Callable[..., Plan]
) -> None:
    """Nothing is started for it; the volume grows when the machine does."""
    drain(operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.STOP))
    operation = change(runtime, make_plan(**LIVE, **COLD))
    assert operation.kind == Kind.RESIZE
    assert drain(operation).state == State.SUCCEEDED, operation.error_message
    runtime = settled(runtime, Phase.STOPPED)
    assert (definition(runtime)["memory"], definition(runtime)["disk"]) == (str(1024 * 1024), "1")
    started = drain(operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.START))
    assert started.state == State.SUCCEEDED, started.error_message
    assert definition(settled(runtime))["disk"] == "2"


def test_a_disk_never_shrinks(runtime: Runtime, make_plan: Callable[..., Plan]) -> None:
    """Not by another plan, not by a plan that was changed; whatever the machine's phase."""
    drain(change(runtime, make_plan("large", disk_gib=3)))
    small = Plan.objects.get(slug="small")
    for phase in (Phase.READY, Phase.STOPPED, Phase.FAILED):
        Runtime.objects.update(phase=phase)
        with pytest.raises(OperationRefused, match=r"A disk only grows.*3 GiB or more"):
            change(runtime, small, restart=True)
    Runtime.objects.update(phase=Phase.READY)
    Plan.objects.filter(slug="large").update(disk_gib=2)
    for kind in (Kind.RESIZE, Kind.RESIZE_RESTART):
        with pytest.raises(OperationRefused, match="A disk only grows"):
            operation_request(actor=TESTER, runtime_id=runtime.pk, kind=kind)
    assert definition(runtime)["disk"] == "3"


def test_a_machine_that_has_its_plan_is_left_alone(
    runtime: Runtime, plan: Plan, make_plan: Callable[..., Plan]
) -> None:
    """The same plan, and another of the same size: no operation; asked for by name, a refusal."""
    for wanted in (plan, make_plan()):
        assert (
            plan_change(actor=TESTER, tenant=runtime.tenant, plan=wanted, price_cents=9000, restart=True)
            is None
        )
    with pytest.raises(OperationRefused, match="has its plan's size already"):
        operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RESIZE)
    runtime.tenant.refresh_from_db()
    assert runtime.tenant.plan.slug == "other"


def test_a_changed_plan_is_applied_when_somebody_asks(runtime: Runtime, plan: Plan) -> None:
    """Changing a plan changes no machine by itself."""
    plan.cpu_percent = 60
    plan_save(actor=TESTER, plan=plan)
    runtime.refresh_from_db()
    assert runtime.cpu_percent == 100
    done = drain(operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RESIZE))
    assert done.state == State.SUCCEEDED
    assert settled(runtime).cpu_percent == 60


def test_the_target_is_what_was_asked_for(runtime: Runtime, plan: Plan) -> None:
    """A plan that changes while the operation waits changes nothing of what was reserved."""
    Plan.objects.update(cpu_percent=60)
    operation = operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.RESIZE)
    Plan.objects.update(cpu_percent=70, disk_gib=9)
    assert drain(operation).state == State.SUCCEEDED
    runtime = settled(runtime)
    assert (runtime.cpu_percent, runtime.disk_gib) == (60, 1)


def test_who_may_and_at_what_price(runtime: Runtime, owner: User, make_plan: Callable[..., Plan]) -> None:
    """Operators only, and never below the plan's cost floor; what is refused leaves nothing."""
    dear = make_plan(cpu_percent=50, cost_floor_cents=9900)
    same = make_plan("same", api_per_minute=1_000_000, cost_floor_cents=0)
    for wanted in (dear, same):  # the second asks for no operation, which has a check of its own
        with pytest.raises(PermissionRefused):
            plan_change(actor=Actor.of(owner), tenant=runtime.tenant, plan=wanted, price_cents=9900)
    with pytest.raises(TenantError, match="9900 cents"):
        change(runtime, dear, price=9899)
    tenant = Tenant.objects.get()
    assert (tenant.plan.slug, tenant.price_cents, runtime.operations.count()) == ("small", 5000, 1)
    change(runtime, dear, price=9900)
    tenant.refresh_from_db()
    assert (tenant.plan, tenant.price_cents, tenant.cost_floor_cents) == (dear, 9900, 9900)
    entry = Entry.objects.get(action="tenant.plan_changed")
    assert (json.loads(entry.event)["data"]["before"], entry.tenant_id) == ("small", tenant.pk)
    requested = Entry.objects.filter(action="operation.requested").latest("pk")
    size = json.loads(requested.event)["data"]["size"]
    assert (size["before"]["cpu_percent"], size["after"]["cpu_percent"]) == (100, 50)


def test_without_an_entry_the_plan_stays(
    runtime: Runtime, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 1: plan, price, operation and reserved room are one transaction with their entries."""
    other = make_plan(disk_gib=4)

    def broken(**given: Any) -> None:
        raise RuntimeError("disk full")

    for room in ("tenants.services.registry.record", "provisioning.services.record"):
        with monkeypatch.context() as patch:
            patch.setattr(room, broken)
            with pytest.raises(RuntimeError):
                change(runtime, other)
        runtime = Runtime.objects.get()
        assert (runtime.tenant.plan.slug, runtime.spare_disk_gib) == ("small", 0)
        assert runtime.operations.count() == 1


def test_the_larger_of_both_sizes_is_reserved_while_it_goes_on(
    runtime: Runtime,
    simulated_host: Host,
    make_plan: Callable[..., Plan],
    children_environment: dict[str, str],
) -> None:
    """From the request to the end, in both directions: undoing must find its room."""
    size = {"vcpus": 1, "memory_mib": 1024, "disk_gib": 4}
    operation = change(runtime, make_plan(**{**size, "memory_mib": 384}), restart=True)
    for point in ("step.resize:before", "step.define:before", "step.ready:before"):
        assert reserved_on(simulated_host) == {"vcpus": 1, "memory_mib": 512, "disk_gib": 4}, point
        killed(operation, children_environment, point)
    assert reserved_on(simulated_host) == {"vcpus": 1, "memory_mib": 512, "disk_gib": 4}
    assert drain(operation).state == State.SUCCEEDED
    assert reserved_on(simulated_host) == {"vcpus": 1, "memory_mib": 384, "disk_gib": 4}
    settled(runtime)


@pytest.mark.parametrize(
    ("grown", "room", "words"),
    [
        ({"disk_gib": 6}, {"disk_gib": 5}, "needs 5 GiB of disk, 4 free"),
        ({"memory_mib": 900}, {"memory_mib": 800}, "needs 388 MiB of memory, 288 free"),
        ({"vcpus": 5}, {"vcpus": 1}, "needs 4 vCPUs, 3 free"),
    ],
)
def test_no_room_is_a_refusal_with_numbers(
    runtime: Runtime,
    make_plan: Callable[..., Plan],
    grown: dict[str, int],
    room: dict[str, int],
    words: str,
) -> None:
    """At once, and nothing is written."""
    Host.objects.update(**room)
    with pytest.raises(OperationRefused, match=f"No room for the larger size: simulated {words}"):
        change(runtime, make_plan(**grown), restart=True)
    assert Runtime.objects.get().tenant.plan.slug == "small"


def test_a_full_host_keeps_nobody_from_a_smaller_plan(
    runtime: Runtime, make_plan: Callable[..., Plan]
) -> None:
    """Even one that has promised more than it has, after it was registered anew."""
    Host.objects.update(memory_mib=100, disk_gib=0, vcpus=0)
    assert drain(change(runtime, make_plan(memory_mib=384), restart=True)).state == State.SUCCEEDED
    settled(runtime)


def test_room_that_nobody_uses_is_found(runtime: Runtime) -> None:
    """The fleet's audit names a reservation that outlived its operation."""
    Runtime.objects.update(spare_memory_mib=1)
    assert [(f.kind, f.problem) for f in audit_fleet()] == [("quota", "holds quota that nobody uses")]


def test_a_forced_deletion_gives_the_room_for_both_back(
    runtime: Runtime, simulated_host: Host, make_plan: Callable[..., Plan]
) -> None:
    """Whatever a change of size had reserved when it was ended."""
    change(runtime, make_plan(**COLD), restart=True)
    forced = operation_request(
        actor=TESTER, runtime_id=runtime.pk, kind=Kind.FORCE_DELETE, reason="because of a test"
    )
    assert reserved_on(simulated_host)["memory_mib"] == 1024, "held until it is gone"
    assert drain(forced).state == State.SUCCEEDED
    assert reserved_on(simulated_host) == {"vcpus": 0, "memory_mib": 0, "disk_gib": 0}


def test_guests_say_what_they_use(runtime: Runtime) -> None:
    """Asked over the agent's own route, written down with the time; not while an operation goes on."""
    from provisioning.tasks import usage_observe

    usage_observe()
    runtime.refresh_from_db()
    assert runtime.usage["memory_mib"] > 0
    assert runtime.usage["disk_mib"] > 0
    assert (runtime.usage["jobs_running"], runtime.usage["jobs_waiting"]) == (0, 0)
    assert runtime.usage_at is not None
    Runtime.objects.update(usage={})
    operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.STOP)
    usage_observe()
    runtime.refresh_from_db()
    assert runtime.usage == {}


def break_step(monkeypatch: pytest.MonkeyPatch, name: str, times: int = 99) -> None:
    """The guest does not answer after its change of size: the step ``name`` fails ``times``."""
    from provisioning.steps import ACTIONS, Action
    from provisioning.steps.context import StepFailed

    real, left = ACTIONS[name], [times]

    def broken(context: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise StepFailed("because_of_a_test", "It failed because of a test.")
        real.do(context)

    monkeypatch.setitem(ACTIONS, name, Action(broken, real.undo))


@pytest.mark.parametrize("step", ["personalise", "start", "reach", "ready"])
def test_a_failed_restart_brings_the_former_machine_back(
    runtime: Runtime, make_plan: Callable[..., Plan], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready as before, of the former size, with a guest that answers."""
    before = size_of(runtime)
    break_step(monkeypatch, step)
    done = drain(change(runtime, make_plan(**COLD), restart=True))
    assert (done.state, done.error_code) == (State.FAILED, "because_of_a_test")
    runtime = settled(runtime)
    assert size_of(runtime) == before
    assert (runtime.power, definition(runtime)["memory"]) == ("running", str(512 * 1024))
    assert told(runtime).memory_mib == 512
    assert runtime.enrolment_secret is None, "the guest was confirmed"


@pytest.mark.parametrize("step", ["define", "tune"])
def test_a_failed_change_at_once_is_taken_back(
    runtime: Runtime, make_plan: Callable[..., Plan], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest has run on; caps and definition are the former ones."""
    pid = agent_pid(runtime)
    break_step(monkeypatch, step)
    assert drain(change(runtime, make_plan(cpu_percent=40))).state == State.FAILED
    runtime = settled(runtime)
    assert (runtime.cpu_percent, definition(runtime)["quota"]) == (100, "100000")
    assert tuned(runtime)["cpu_percent"] == 100
    assert agent_pid(runtime) == pid


def test_a_host_out_of_reach_leaves_the_guest_as_it_was(
    runtime: Runtime, simulated_host: Host, make_plan: Callable[..., Plan]
) -> None:
    """The change waits, gives up, and is taken back once the host is there; room for both is held so long."""
    pid = agent_pid(runtime)
    operation = change(runtime, make_plan(cpu_percent=40, disk_gib=3))
    move(simulated_host, "test+unix:///default?socket=/nonexistent/libvirt-sock")
    Runtime.objects.update(power="unknown")
    for _ in range(machine.MAX_ATTEMPTS + 2):
        machine.run(operation.pk)
        Operation.objects.filter(pk=operation.pk).update(not_before=None)
    operation.refresh_from_db()
    assert (operation.state, operation.error_code) == (State.UNDOING, "host_unreachable")
    assert reserved_on(simulated_host)["disk_gib"] == 3
    move(simulated_host, "test+unix:///default")
    assert drain(operation).state == State.FAILED
    runtime = settled(runtime)
    assert (runtime.cpu_percent, runtime.disk_gib, agent_pid(runtime)) == (100, 1, pid)


def test_a_disk_that_has_grown_stays_grown(
    runtime: Runtime, simulated_host: Host, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest goes back; what is reserved is what is there."""
    break_step(monkeypatch, "reach")
    assert drain(change(runtime, make_plan(**COLD, disk_gib=3), restart=True)).state == State.FAILED
    runtime = settled(runtime)
    assert (runtime.memory_mib, runtime.disk_gib, definition(runtime)["disk"]) == (512, 3, "3")
    assert reserved_on(simulated_host)["disk_gib"] == 3


def test_a_machine_that_does_not_come_back_is_failed(
    runtime: Runtime, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off, with its former size, and never a loop; a start brings it up once the trouble is gone."""
    from provisioning.steps import boot
    from provisioning.steps.context import StepFailed

    def silent(*given: Any, **more: Any) -> None:
        raise StepFailed("guest_silent", "The guest did not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(boot, "await_guest", silent)
        done = drain(change(runtime, make_plan(**COLD), restart=True))
    assert (done.state, done.error_code) == (State.FAILED, "guest_silent")
    runtime = settled(runtime, Phase.FAILED)
    assert (runtime.power, runtime.memory_mib) == ("off", 512)
    started = drain(operation_request(actor=TESTER, runtime_id=runtime.pk, kind=Kind.START))
    assert started.state == State.SUCCEEDED, started.error_message
    settled(runtime)


HOPELESS = (ImageMissing, ImageCorrupt, NoSpace, Conflict, Unsupported, CallFailed, RulesRefused, SealBroken)
PASSING = (HostBusy, NotInForce)


@pytest.mark.parametrize("kind", [*HOPELESS, *PASSING], ids=lambda kind: kind.code)
def test_whatever_keeps_it_from_coming_back_it_ends(
    runtime: Runtime, make_plan: Callable[..., Plan], kind: type[DriverError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tries for what may pass, one for the rest; none of the tries of going forward counts."""
    from provisioning.steps import build, outlet

    tries = []

    def broken(*given: Any) -> None:
        tries.append(given)
        raise kind("It failed because of a test.")

    break_step(monkeypatch, "reach")
    room = (outlet, "serve") if issubclass(kind, NotInForce) else (build, "check_image")
    operation = change(runtime, make_plan(**COLD), restart=True)
    operation.steps.filter(name="shutdown").update(attempts=5)
    with monkeypatch.context() as patch:
        patch.setattr(*room, broken)
        done = drain(operation)
    assert (done.state, done.error_code) == (State.FAILED, "because_of_a_test")
    assert len(tries) == (1 if kind in HOPELESS else 3)
    assert settled(runtime, Phase.FAILED).power == "off"
    left = done.steps.get(name="shutdown")
    assert left.detail == "Not brought up again: It failed because of a test."


def test_a_host_out_of_reach_is_waited_for_and_costs_no_try(
    runtime: Runtime, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the machine could not be left off either."""
    from provisioning.steps import build

    real, left = build.check_image, [10]

    def away(context: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise HostUnreachable("The host does not answer.")
        real(context)

    break_step(monkeypatch, "reach")
    operation = change(runtime, make_plan(**COLD), restart=True)
    monkeypatch.setattr(build, "check_image", away)
    machine.run(operation.pk)
    operation.refresh_from_db()
    assert operation.wait_reason == "Trying again: The host does not answer."
    assert drain(operation).state == State.FAILED
    assert (settled(runtime).power, left) == ("running", [0])


def test_a_cancelled_restart_changes_nothing(
    runtime: Runtime, make_plan: Callable[..., Plan], children_environment: dict[str, str]
) -> None:
    """Before it began and in its midst."""
    other = make_plan(**COLD)
    for point in ("step.place:before", "step.define:before", "step.reach:after"):
        Tenant.objects.update(plan=Plan.objects.get(slug="small"))
        runtime.refresh_from_db()
        operation = change(runtime, other, restart=True)
        run_in_child(operation, children_environment, f"{point}=kill")
        let_lease_lapse(operation.pk)
        operation_cancel(actor=TESTER, operation_id=operation.pk)
        assert drain(operation).state == State.CANCELLED
        assert settled(runtime).memory_mib == 512, point
        assert definition(runtime)["memory"] == str(512 * 1024)


def points(kind: str, prefix: str = "step") -> list[str]:
    names = [p.name for p in SEQUENCES[kind] if prefix == "step" or p.undone]
    return [f"{prefix}.{name}:{when}" for name in names for when in ("before", "after")]


def killed(operation: Operation, environment: dict[str, str], point: str) -> None:
    assert run_in_child(operation, environment, f"{point}=kill") == -signal.SIGKILL, (
        f"{point} was not reached"
    )
    let_lease_lapse(operation.pk)


TUNING = [
    f"{call}:{when}" for call in ("domain.tune", "volume.resize") for when in ("before", "during", "after")
]


@pytest.mark.matrix
@pytest.mark.parametrize("point", points(Kind.RESIZE) + TUNING)
def test_a_change_at_once_is_finished_by_the_next_worker(
    point: str, runtime: Runtime, make_plan: Callable[..., Plan], children_environment: dict[str, str]
) -> None:
    """Kill -9 anywhere: the machine gets all of it, and the guest never noticed."""
    pid = agent_pid(runtime)
    operation = change(runtime, make_plan(**LIVE))
    killed(operation, children_environment, point)
    assert drain(operation).state == State.SUCCEEDED, operation.error_message
    runtime = settled(runtime)
    assert {name: getattr(runtime, name) for name in LIVE} == LIVE
    assert (tuned(runtime)["cpu_percent"], definition(runtime)["disk"]) == (40, "2")
    assert agent_pid(runtime) == pid


@pytest.mark.matrix
@pytest.mark.parametrize("point", [*points(Kind.RESIZE_RESTART), *TUNING[3:]])
def test_a_change_with_a_restart_is_finished_by_the_next_worker(
    point: str, runtime: Runtime, make_plan: Callable[..., Plan], children_environment: dict[str, str]
) -> None:
    """Kill -9 anywhere: ready, once, and of the new size on both sides."""
    operation = change(runtime, make_plan(**LIVE, **COLD), restart=True)
    killed(operation, children_environment, point)
    assert drain(operation).state == State.SUCCEEDED, operation.error_message
    runtime = settled(runtime)
    assert size_of(runtime) == size_of(Plan.objects.get(slug="other"))
    assert (definition(runtime)["memory"], definition(runtime)["disk"]) == (str(1024 * 1024), "2")


@pytest.mark.matrix
@pytest.mark.parametrize("point", [p for p in points(Kind.RESIZE_RESTART, "undo") if "place" not in p])
def test_undoing_a_restart_is_finished_by_the_next_worker(
    point: str, runtime: Runtime, make_plan: Callable[..., Plan], children_environment: dict[str, str]
) -> None:
    """Kill -9 while it is taken back: the former machine is ready."""
    operation = change(runtime, make_plan(**COLD), restart=True)
    run_in_child(operation, children_environment, "step.enrol:before=kill")
    let_lease_lapse(operation.pk)
    operation_cancel(actor=TESTER, operation_id=operation.pk)
    killed(operation, children_environment, point)
    assert drain(operation).state == State.CANCELLED
    assert settled(runtime).memory_mib == 512
    assert definition(runtime)["memory"] == str(512 * 1024)


@pytest.mark.matrix
@pytest.mark.parametrize("when", ["before", "after"])
def test_undoing_a_change_at_once_is_finished_by_the_next_worker(
    when: str, runtime: Runtime, make_plan: Callable[..., Plan], children_environment: dict[str, str]
) -> None:
    """Kill -9 while it is taken back."""
    operation = change(runtime, make_plan(cpu_percent=40))
    run_in_child(operation, children_environment, "step.tune:before=kill")
    let_lease_lapse(operation.pk)
    # Nobody cancels what takes a second; a step that failed is what turns it back.
    Operation.objects.filter(pk=operation.pk).update(state=State.UNDOING, error_code="test")
    killed(operation, children_environment, f"undo.resize:{when}")
    assert drain(operation).state == State.FAILED
    runtime = settled(runtime)
    assert (runtime.cpu_percent, definition(runtime)["quota"]) == (100, "100000")
