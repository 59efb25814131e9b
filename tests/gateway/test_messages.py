"""Messages as jobs, through a real agent: the gateway is started, asked with the member's rights, and its reply kept."""

import base64
import json
import time
import uuid
from typing import Any

from tests.gateway.conftest import Stage, wait_for
from tests.guest.files import Person
from tests.guest.test_gate import call
from tests.protocol.people import MEMBER


def submit(stage: Stage, person: Person | None = None, text: str = "hello", **more: Any) -> Any:
    body = json.dumps({"kind": "message", "text": text, "id": str(uuid.uuid4()), **more}).encode()
    return (person or stage.person).ask("POST", "/v1/jobs", body)


def job(stage: Stage, name: str) -> Any:
    return stage.get(f"/v1/jobs/item?id={name}").document


def log(stage: Stage, name: str) -> str:
    return base64.b64decode(stage.get(f"/v1/jobs/log?id={name}").document["data"]).decode()


def ended(stage: Stage, name: str, seconds: float = 40) -> Any:
    wait_for(lambda: job(stage, name)["state"] not in {"queued", "starting", "running"}, seconds)
    return job(stage, name)


def test_a_message_starts_the_gateway(stage: Stage) -> None:
    """The reply is the job's log; a member's message has a member's scopes."""
    stage.agree()
    asked = submit(stage, stage.another(), "say it")
    assert asked.status == 201, asked.body
    done = ended(stage, asked.document["id"])
    assert (done["state"], done["by"]["fingerprint"]) == ("succeeded", MEMBER.key.fingerprint)
    assert log(stage, done["id"]).startswith("0 1 2 3 ")
    assert log(stage, done["id"]).endswith(" 999 operator.read,operator.write")
    assert stage.launcher.starts == 1


def test_without_consent_none_is_taken(stage: Stage) -> None:
    refused = submit(stage)
    assert (refused.status, refused.code) == (403, "agents_not_agreed")
    assert stage.launcher.starts == 0


def begin(stage: Stage, **more: Any) -> str:
    stage.start()
    name = str(submit(stage, **more).document["id"])
    wait_for(lambda: log(stage, name).startswith("0 1 2"))
    return name


def test_a_withdrawn_consent_ends_it(stage: Stage) -> None:
    name = begin(stage)
    stage.agree(agents=False)
    done = ended(stage, name, 3)
    assert (done["state"], done["reason"]) == ("failed", "broken")
    assert log(stage, name).endswith("\n[the gateway was stopped]\n") or "broke off" in log(stage, name)


def test_it_can_be_cancelled_and_has_a_limit(stage: Stage) -> None:
    name = begin(stage)
    stage.person.ask("POST", "/v1/jobs/cancel", json.dumps({"id": name}).encode())
    assert ended(stage, name, 5)["state"] == "cancelled"
    short = begin(stage, seconds=1)
    began = time.monotonic()
    assert ended(stage, short, 5)["reason"] == "time_limit"
    assert time.monotonic() - began < 3


def test_a_gateway_that_dies_under_it(stage: Stage) -> None:
    name = begin(stage)
    stage.launcher.kill("oom-kill")
    assert ended(stage, name, 5)["state"] == "failed"
    assert "[the gateway" in log(stage, name)
    stage.until("failed")


def test_it_is_use(stage: Stage) -> None:
    """While one is answered the gateway is not idle."""
    begin(stage)
    first = stage.told()["idle_seconds_left"]
    time.sleep(1.2)
    assert stage.told()["idle_seconds_left"] == first == 1800
    assert call(stage.agent, stage.site, "GET", "/v1/status")[0] == 200
