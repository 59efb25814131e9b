"""Which secrets the gateway gets, and when: one, by name, between its start and ready; through a real agent."""

import json
from hashlib import sha256
from typing import Any

import pytest

from tests.gateway.conftest import Stage, staged, wait_for
from tests.guest.boxes import boxed, found_in
from tests.guest.test_gate import call

KEY, OTHER = b"model-key-tell-tale", b"other-key-tell-tale"
MODEL = {
    "base_url": "https://models.test/v1",
    "name": "large",
    "api": "openai-completions",
    "secret": "MODEL_KEY",
}


def deliver(stage: Stage, name: str, value: bytes, version: int = 1) -> None:
    public = call(stage.agent, stage.site, "GET", "/v1/secrets")[1]["sealing"]["current"]["public_key"]
    body = boxed(bytes.fromhex(public), value, name, version)
    assert call(stage.agent, stage.site, "PUT", "/v1/secrets", body)[0] == 200


def choose(stage: Stage, model: Any, person: Any = None) -> Any:
    return (person or stage.person).ask("PUT", "/v1/gateway/model", json.dumps({"model": model}).encode())


@pytest.fixture
def keyed(stage: Stage) -> Stage:
    deliver(stage, "MODEL_KEY", KEY)
    deliver(stage, "GITHUB_TOKEN", OTHER)
    deliver(stage, "OTHER_KEY", OTHER)
    assert choose(stage, MODEL).status == 200
    return stage


def test_one_secret_while_it_starts(keyed: Stage) -> None:
    """The one that the model names. Others of the tenant's are not there, though it asks for them."""
    keyed.start()
    assert keyed.launcher.facts["secrets"] == {"MODEL_KEY": sha256(KEY).hexdigest()}
    assert keyed.launcher.facts["others"] == {}
    text = json.dumps(keyed.launcher.asked)
    assert KEY.decode() not in text
    assert "MODEL_KEY" in text
    assert found_in(keyed.site.data, KEY, OTHER) == []


def test_none_afterwards(keyed: Stage) -> None:
    """The first request already finds the window closed."""
    keyed.start()
    assert keyed.get("/gateway/late-secret?name=MODEL_KEY").document == {}
    assert not keyed.launcher.secrets.exists()


def test_no_window_without_need(stage: Stage) -> None:
    deliver(stage, "MODEL_KEY", KEY)
    stage.launcher.delay = 1
    stage.agree()
    stage.person.ask("POST", "/v1/gateway/start")
    wait_for(stage.launcher.facts_file.exists)
    assert not stage.launcher.secrets.exists()


def test_no_window_when_the_start_fails(tmp_path: Any) -> None:
    """Neither after the time is up nor after it was stopped meanwhile."""
    with staged(tmp_path, "--gateway-timeout", "2") as stage:
        deliver(stage, "MODEL_KEY", KEY)
        choose(stage, MODEL)
        stage.launcher.delay = 60
        stage.agree()
        for ended in ("failed", "off"):
            stage.person.ask("POST", "/v1/gateway/start")
            wait_for(stage.launcher.secrets.exists)
            if ended == "off":
                stage.agree(agents=False)
            stage.until(ended)
            assert not stage.launcher.secrets.exists()


def test_a_changed_secret(keyed: Stage) -> None:
    """Of this model: the gateway starts anew with it. Of another name: nothing happens. Revoked: it stops."""
    keyed.start()
    deliver(keyed, "OTHER_KEY", b"new", 2)
    assert keyed.state() == "ready"
    deliver(keyed, "MODEL_KEY", b"newer", 2)
    wait_for(lambda: keyed.launcher.starts == 2 and keyed.state() == "ready")
    assert keyed.launcher.facts["secrets"] == {"MODEL_KEY": sha256(b"newer").hexdigest()}
    body = {"name": "MODEL_KEY", "version": 3}
    assert call(keyed.agent, keyed.site, "POST", "/v1/secrets/revoke", body)[0] == 200
    keyed.until("off")
    refused = keyed.person.ask("POST", "/v1/gateway/start")
    assert (refused.status, refused.code) == (409, "secret_missing")
    assert keyed.launcher.starts == 2


def test_a_secret_that_is_no_text(stage: Stage) -> None:
    deliver(stage, "MODEL_KEY", b"\xff\xfe")
    choose(stage, MODEL)
    stage.agree()
    assert stage.person.ask("POST", "/v1/gateway/start").code == "secret_unusable"


def test_whose_choice_the_model_is(keyed: Stage) -> None:
    """An owner's alone: the key goes where the address points."""
    member = keyed.another()
    for method in ("GET", "PUT"):
        body = json.dumps({"model": "rehearsal"}).encode() if method == "PUT" else b""
        assert member.ask(method, "/v1/gateway/model", body).code == "not_an_owner"
    assert keyed.get("/v1/gateway/model").document == {"model": MODEL}


def test_another_model_while_it_runs(keyed: Stage) -> None:
    """It starts anew, with what that one needs; kept over the agent's restart."""
    keyed.start()
    assert choose(keyed, "rehearsal").status == 200
    wait_for(lambda: keyed.launcher.starts == 2 and keyed.state() == "ready")
    assert keyed.launcher.facts["secrets"] == {}
    rendered = keyed.launcher.facts["config"]["models"]["providers"]["owner"]
    assert rendered["baseUrl"] == f"http://127.0.0.1:{keyed.rehearsal_port}/v1"
    assert json.loads((keyed.site.data / "gateway-model.json").read_text()) == {"model": "rehearsal"}
    assert choose(keyed, "rehearsal").status == 200
    assert keyed.launcher.starts == 2, "the same again changes nothing"


@pytest.mark.parametrize(
    "model",
    ["other", 1, [], {}, {"base_url": "https://a.test/"}, MODEL | {"more": "x"}, MODEL | {"api": "x"},
     MODEL | {"base_url": "https://u:p@a.test/"}, MODEL | {"secret": "../x"}, MODEL | {"name": None}, True],
)  # fmt: skip
def test_models_that_are_refused(stage: Stage, model: Any) -> None:
    refused = choose(stage, model)
    assert (refused.status, refused.code) == (422, "malformed")
    assert stage.get("/v1/gateway/model").document == {"model": None}
