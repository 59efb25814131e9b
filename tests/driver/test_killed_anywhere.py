"""SIGKILL at every fault point of the driver: whoever comes next finishes or clears up."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioning.driver import FAULT_POINTS, HostSpec, LibvirtDriver, Power, RuntimeSpec
from tests.driver.support import EMPTY, ENSURES, REMOVES, build, change, open_driver, remove, set_aside, whole

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = ("before", "during", "after")
BUILDING = (
    "pool.define",
    "pool.build",
    "pool.start",
    "pool.autostart",
    "secret.define",
    "secret.set_value",
    "volume.create",
    "personalisation.create",
    "personalisation.upload",
    "egress.define",
    "egress.start",
    "egress.autostart",
    "egress.create",
    "egress.upload",
    "network.define",
    "network.start",
    "network.autostart",
    "filter.define",
    "domain.define",
    "domain.start",
    "agent.launch",
)
REMOVING = (
    "domain.destroy",
    "agent.stop",
    "domain.undefine",
    "personalisation.delete",
    "filter.undefine",
    "network.stop",
    "network.undefine",
    "volume.delete",
    "secret.undefine",
    "egress.delete",
    "egress.stop",
    "egress.undefine",
    "pool.stop",
    "pool.undefine",
)
PRESSING = ("domain.shutdown",)
SETTING_ASIDE = ("domain.suspend", "domain.cut")
SETTLING = ("domain.plug", "domain.autostart")
"""Each is one call on a real machine; tests/provisioning/test_drift_guest.py."""
CHANGING = ("domain.tune", "volume.resize")


def test_every_registered_point_is_walked() -> None:
    """A new call must be put into one of the lists above."""
    walked = (*BUILDING, *REMOVING, *PRESSING, *CHANGING, *SETTING_ASIDE, *SETTLING)
    assert sorted(walked) == sorted(FAULT_POINTS)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("call", BUILDING)
def test_a_build_killed_anywhere_is_finished_by_the_next(
    simulated: LibvirtDriver, spec: RuntimeSpec, call: str, moment: str
) -> None:
    _killed("build", simulated.host, spec, f"{call}:{moment}")
    build(simulated, spec)
    assert build(simulated, spec) == dict.fromkeys(ENSURES, False)
    assert simulated.inventory() == whole(spec.runtime_id)
    assert simulated.power(spec.runtime_id) is Power.RUNNING
    assert _eventually(lambda: len(_agents(simulated.host)) == 1)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("call", BUILDING[::3])
def test_a_build_killed_anywhere_can_be_removed(
    simulated: LibvirtDriver, spec: RuntimeSpec, call: str, moment: str
) -> None:
    _killed("build", simulated.host, spec, f"{call}:{moment}")
    remove(simulated, spec)
    _assert_nothing_left(simulated)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("call", REMOVING)
def test_a_removal_killed_anywhere_is_finished_by_the_next(
    simulated: LibvirtDriver, spec: RuntimeSpec, call: str, moment: str
) -> None:
    build(simulated, spec)
    _killed("remove", simulated.host, spec, f"{call}:{moment}")
    remove(simulated, spec)
    assert remove(simulated, spec) == dict.fromkeys(REMOVES, False)
    _assert_nothing_left(simulated)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("call", SETTING_ASIDE)
def test_setting_aside_killed_anywhere_is_finished_by_the_next(
    simulated: LibvirtDriver, spec: RuntimeSpec, call: str, moment: str
) -> None:
    """Paused and unplugged, once; and all of it can be removed."""
    build(simulated, spec)
    _killed("set_aside", simulated.host, spec, f"{call}:{moment}")
    set_aside(simulated, spec)
    assert set_aside(simulated, spec) == {"suspend": False, "cut": False}
    assert simulated.power(spec.runtime_id) is Power.PAUSED
    remove(simulated, spec)
    _assert_nothing_left(simulated)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("call", CHANGING)
def test_a_change_of_size_killed_anywhere_is_finished_by_the_next(
    simulated: LibvirtDriver, spec: RuntimeSpec, call: str, moment: str
) -> None:
    build(simulated, spec)
    _killed("change", simulated.host, spec, f"{call}:{moment}")
    change(simulated, spec)
    assert change(simulated, spec) == [False, False]
    assert simulated.volume_gib(spec.runtime_id) == 2
    assert simulated.inventory() == whole(spec.runtime_id)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_shutdown_killed_anywhere_is_finished_by_the_next(
    simulated: LibvirtDriver, spec: RuntimeSpec, moment: str
) -> None:
    build(simulated, spec)
    code = (
        "import sys\nfrom tests.driver.support import *\nfrom uuid import UUID\n"
        "host = HostSpec(URIS[Engine.TEST], Engine.TEST, sys.argv[1], sys.argv[2])\n"
        "with open_driver(host) as driver: driver.shutdown(UUID(sys.argv[3]), 20)\n"
    )
    host = simulated.host
    command = [sys.executable, "-c", code, host.fleet, host.pool_path, str(spec.runtime_id)]
    assert _run(command, f"domain.shutdown:{moment}") == -signal.SIGKILL
    assert simulated.shutdown(spec.runtime_id, 20)
    assert simulated.power(spec.runtime_id) is Power.OFF
    assert _agents(host) == []


def test_an_agent_that_died_is_a_crash_and_is_started_again(
    simulated: LibvirtDriver, spec: RuntimeSpec
) -> None:
    build(simulated, spec)
    (pid,) = _agents(simulated.host)
    os.kill(pid, signal.SIGKILL)
    wanted = Path(simulated.host.pool_path) / "agents" / str(spec.runtime_id) / "wanted"
    os.utime(wanted, (0, 0))  # the launch was long ago
    assert _eventually(lambda: simulated.power(spec.runtime_id) is Power.CRASHED)
    assert simulated.start(spec) is True
    assert simulated.power(spec.runtime_id) is Power.RUNNING


def test_a_stranger_with_the_agents_process_id_is_left_alone(
    simulated: LibvirtDriver, spec: RuntimeSpec
) -> None:
    """The id was given anew to a process that started later."""
    build(simulated, spec)
    simulated.destroy(spec.runtime_id)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        pid_file = Path(simulated.host.pool_path) / "agents" / str(spec.runtime_id) / "pid"
        pid_file.write_text(f"{stranger.pid} 1")
        simulated.destroy(spec.runtime_id)
        assert stranger.poll() is None
        stranger.kill()


def test_the_state_outlives_the_connection_that_made_it(simulated_host: HostSpec, spec: RuntimeSpec) -> None:
    with open_driver(simulated_host) as first:
        build(first, spec)
    with open_driver(simulated_host) as second:
        assert second.inventory() == whole(spec.runtime_id)
        remove(second, spec)
        _assert_nothing_left(second)


def _killed(what: str, host: HostSpec, spec: RuntimeSpec, point: str) -> None:
    command = [sys.executable, "-m", "tests.driver.child", what, host.fleet, host.pool_path]
    assert _run([*command, spec.image.directory, str(spec.runtime_id)], point) == -signal.SIGKILL


def _run(command: list[str], point: str) -> int:
    environment = {**os.environ, "PORTAL_ALLOW_FAULTS": "1", "PORTAL_FAULT": f"{point}=kill"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=60).returncode


def _assert_nothing_left(driver: LibvirtDriver) -> None:
    assert driver.inventory() == EMPTY
    # A launcher that was under way finds that it is no longer wanted, and ends.
    assert _eventually(lambda: _agents(driver.host) == [])


def _agents(host: HostSpec) -> list[int]:
    """Process ids of agents that were given a file in this pool."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"import time; time.sleep(600)" in arguments and any(
            host.pool_path.encode() in a for a in arguments
        ):
            found.append(int(entry.name))
    return found


def _eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return holds()
