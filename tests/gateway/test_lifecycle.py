"""When the gateway runs: consents, idleness, ends and restarts, through a real agent process."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import CHAT, Stage, staged, wait_for
from tests.guest.test_gate import call


def start(stage: Stage) -> Any:
    return stage.person.ask("POST", "/v1/gateway/start")


def test_from_off_to_ready_and_back(stage: Stage) -> None:
    """What members and the portal are told at each point; a start that is asked for twice is one."""
    stage.agree()
    assert stage.told()["state"] == "off"
    assert stage.get("/gateway/x").document["error"] == "gateway_off"
    assert start(stage).status == 202
    assert start(stage).document["state"] in {"starting", "ready"}
    stage.until("ready")
    told = stage.told()
    assert (told["agents"], told["always_on"], told["reason"], told["model"]) == (True, False, "", None)
    assert 0 < told["idle_seconds_left"] <= 1800
    assert stage.get("/gateway/x").status == 200
    assert stage.launcher.starts == 1
    stopped = stage.person.ask("POST", "/v1/gateway/stop").document
    assert (stopped["state"], stopped["reason"]) == ("off", "A member stopped it.")
    assert stage.launcher.process is None
    assert call(stage.agent, stage.site, "GET", "/v1/status")[1]["gateway"] == {"state": "off", "result": ""}


def test_what_the_launcher_is_asked_for(stage: Stage) -> None:
    """The plan's limits; the configuration holds this start's header names, this origin and no key."""
    stage.start()
    (asked,) = [each for each in stage.launcher.asked if each["verb"] == "gateway_start"]
    assert (asked["memory_mib"], asked["heap_mib"], asked["tasks"]) == (2048 - 384, (2048 - 384) // 2, 512)
    gateway = json.loads(asked["config"])["gateway"]
    assert gateway["controlUi"] == {
        "allowedOrigins": ["http://acme.portal.localhost:8000"],
        "basePath": "/gateway",
        "dangerouslyDisableDeviceAuth": True,
    }
    first = gateway["auth"]["trustedProxy"]["userHeader"]
    stage.person.ask("POST", "/v1/gateway/stop")
    start(stage)
    stage.until("ready")
    again = json.loads(stage.launcher.asked[-1]["config"] if "config" in stage.launcher.asked[-1] else next(
        each["config"] for each in reversed(stage.launcher.asked) if "config" in each))  # fmt: skip
    assert again["gateway"]["auth"]["trustedProxy"]["userHeader"] != first


@pytest.mark.parametrize(
    ("agents", "always_on", "code", "by_itself"),
    [
        (None, None, 403, False),
        (False, False, 403, False),
        (True, False, 202, False),
        (True, True, 202, True),
    ],
)
def test_the_consents(
    stage: Stage, agents: bool | None, always_on: bool | None, code: int, by_itself: bool
) -> None:
    """Both are asked here, in the guest: nothing starts without the one, and by itself only with the other."""
    if agents is not None:
        stage.agree(agents, bool(always_on))
    time.sleep(1.0)
    assert (stage.launcher.starts > 0) == by_itself
    refused = start(stage)
    assert refused.status == code
    if code == 403:
        assert refused.code == "agents_not_agreed"
        assert stage.person.ask("POST", CHAT, b"{}").code == "agents_not_agreed"
        stage.get("/gateway/", Accept="text/html")
        assert stage.launcher.starts == 0


def test_a_withdrawn_consent_stops_it_at_once(stage: Stage) -> None:
    stage.start()
    began = time.monotonic()
    stage.agree(agents=False)
    assert stage.get("/gateway/x").status == 503, "not one request more"
    wait_for(lambda: stage.launcher.process is None, 2)
    assert time.monotonic() - began < 1.5
    assert stage.told()["reason"] == "Agents are no longer agreed to."


def test_while_it_starts_too(stage: Stage) -> None:
    stage.launcher.delay = 30
    stage.agree()
    start(stage)
    wait_for(lambda: stage.launcher.starts)
    stage.agree(agents=False)
    wait_for(lambda: stage.launcher.process is None, 2)
    stage.until("off")


def test_suspension_stops_it(stage: Stage) -> None:
    """And its end starts only what is to be always on."""
    stage.start()
    stage.suspend()
    stage.until("off", 3)
    stage.suspend(False)
    time.sleep(0.8)
    assert stage.state() == "off"


def test_idle(tmp_path: Path) -> None:
    """Use puts it off; being looked at does not."""
    with staged(tmp_path, gateway_idle_seconds=2) as stage:
        stage.start()
        for _ in range(3):
            time.sleep(1)
            assert stage.get("/gateway/x").status == 200
        used = time.monotonic()
        wait_for(lambda: stage.told()["state"] == "off", 6)
        assert 1.5 < time.monotonic() - used < 4
        assert stage.told()["reason"] == "Nobody used it."


def test_always_on_is_never_idle(tmp_path: Path) -> None:
    with staged(tmp_path, gateway_idle_seconds=1) as stage:
        stage.agree(always_on=True)
        stage.until("ready")
        time.sleep(2)
        assert stage.told()["state"] == "ready"
        assert stage.told()["idle_seconds_left"] is None


@pytest.mark.parametrize("always_on", [True, False])
def test_an_agent_that_starts(tmp_path: Path, always_on: bool) -> None:
    """It ends what an agent before it left running, whose header names nobody knows; always on, it starts another."""
    with staged(tmp_path) as stage:
        stage.agree(always_on=always_on)
        if not always_on:
            start(stage)
        stage.until("ready")
        stage.agent.process.kill()
        left = stage.launcher.process
        assert left is not None
        assert left.poll() is None
        with staged_again(stage) as again:
            if always_on:
                again.until("ready")
            wait_for(lambda: left.poll() is not None)
            assert again.launcher.starts == 1 + always_on


def staged_again(stage: Stage) -> Any:
    """Another agent with the same data and the same launcher."""
    from contextlib import contextmanager

    from tests.guest.fleet import running

    @contextmanager
    def again() -> Any:
        given = [str(each) for each in stage.agent.process.args][7:]  # type: ignore[union-attr]
        given = given[given.index("--launcher") :]
        with running(stage.site.personalisation, stage.site.data, *given) as agent:
            yield Stage(agent, stage.site, stage.launcher, stage.person, stage.port, stage.rehearsal_port)

    return again()


def test_an_end_is_reported(stage: Stage) -> None:
    """In words; started on demand it stays down until its next use, and that starts it."""
    stage.start()
    stage.launcher.kill("oom-kill")
    stage.until("failed")
    assert stage.told()["reason"] == "It used more memory than this machine's plan gives it."
    assert call(stage.agent, stage.site, "GET", "/v1/status")[1]["gateway"] == {
        "state": "failed",
        "result": "oom-kill",
    }
    time.sleep(0.6)
    assert stage.launcher.starts == 1
    assert stage.person.ask("POST", CHAT, b"{}").document["error"] == "gateway_starting"
    stage.until("ready")


def test_always_on_comes_back_a_few_times(stage: Stage) -> None:
    """With pauses; then it stays down and says so."""
    stage.agree(always_on=True)
    for number in (1, 2, 3):
        stage.until("ready")
        assert stage.launcher.starts == number
        stage.launcher.kill("oom-kill")
        wait_for(lambda: stage.state() != "ready")
    stage.until("failed")
    time.sleep(1)
    assert stage.launcher.starts == 3
    assert "After 2 restarts nobody tries again" in stage.told()["reason"]
    assert start(stage).status == 202
    stage.until("ready")


def test_a_member_stops_what_is_always_on(stage: Stage) -> None:
    stage.agree(always_on=True)
    stage.until("ready")
    stage.person.ask("POST", "/v1/gateway/stop")
    time.sleep(1)
    assert stage.state() == "off"


def test_the_page_alone_is_not_ready(stage: Stage) -> None:
    """The gateway's page answers 200 for /readyz before it is ready; only the body counts."""
    stage.launcher.delay = 1.5
    stage.agree()
    start(stage)
    wait_for(lambda: stage.launcher.facts_file.exists())
    time.sleep(0.8)
    assert stage.state() == "starting"
    assert stage.get("/gateway/x").document["error"] == "gateway_starting"
    stage.until("ready")


def test_never_ready(tmp_path: Path) -> None:
    with staged(tmp_path, "--gateway-timeout", "1.5") as stage:
        stage.launcher.delay = 60
        stage.agree()
        start(stage)
        stage.until("failed")
        assert stage.told()["reason"] == "It was not ready after 2 seconds."
        assert stage.launcher.process is None


def test_an_end_before_ready(stage: Stage) -> None:
    stage.launcher.delay = 60
    stage.agree()
    start(stage)
    wait_for(lambda: stage.launcher.starts)
    stage.launcher.kill("exit-code")
    stage.until("failed", 5)
    assert stage.told()["reason"] == "It ended before it was ready (exit-code)."


def test_a_plan_that_is_too_small(tmp_path: Path) -> None:
    with staged(tmp_path, memory_mib=512) as stage:
        stage.agree()
        refused = start(stage)
        assert (refused.status, refused.code) == (409, "plan_too_small")
        assert "1408 MiB" in refused.document["message"]
        assert stage.launcher.starts == 0


def test_a_launcher_that_says_no(stage: Stage) -> None:
    stage.launcher.refuses = "systemd did not take the gateway"
    stage.agree()
    start(stage)
    stage.until("failed")
    assert stage.told()["reason"] == "It could not be started: systemd did not take the gateway."


def test_somebody_else_on_its_port(tmp_path: Path) -> None:
    """The kernel says whose the port is; a gateway of another user is none."""
    with staged(tmp_path, "--gateway-user", "54321") as stage:
        stage.agree()
        start(stage)
        stage.until("failed")
        assert stage.told()["reason"] == "Somebody else listens on the gateway's port."
