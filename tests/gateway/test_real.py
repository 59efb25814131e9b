"""The real package behind a real agent, outside a guest: a socket, a turn with a tool, and a key's whole way."""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from tests.gateway.conftest import CHAT, Stage, staged
from tests.gateway.native import _answer, _connect
from tests.gateway.real import PROGRAM, real
from tests.gateway.test_sockets import Socket, with_socket
from tests.guest.boxes import boxed, found_in, traces
from tests.guest.test_gate import call

KEY = b"key-5d1c0e-tell-tale"
OTHER = b"other-91ab-tell-tale"


def deliver(stage: Stage, name: str, value: bytes, version: int = 1) -> None:
    public = call(stage.agent, stage.site, "GET", "/v1/secrets")[1]["sealing"]["current"]["public_key"]
    body = boxed(bytes.fromhex(public), value, name, version)
    assert call(stage.agent, stage.site, "PUT", "/v1/secrets", body)[0] == 200


def choose(stage: Stage, **more: str) -> None:
    model = {
        "base_url": f"http://127.0.0.1:{stage.rehearsal_port}/v1",
        "name": "rehearsal",
        "api": "openai-completions",
    }
    chosen = stage.person.ask("PUT", "/v1/gateway/model", json.dumps({"model": model | more}).encode())
    assert chosen.status == 200, chosen.body


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One gateway for all of them, with one of two secrets for its model's key."""
    with staged(tmp_path_factory.mktemp("real"), "--gateway-timeout", "120") as made:
        made.launcher.command = real(made.launcher)
        deliver(made, "MODEL_KEY", KEY)
        deliver(made, "GITHUB_TOKEN", OTHER)
        choose(made, secret="MODEL_KEY")
        made.agree()
        assert made.person.ask("POST", "/v1/gateway/start").status == 202
        made.until("ready", 120)
        yield made


def say(stage: Stage, text: str, person: Any = None) -> str:
    body = json.dumps({"model": "openclaw", "messages": [{"role": "user", "content": text}]}).encode()
    reply = (person or stage.person).ask("POST", CHAT, body)
    assert reply.status == 200, reply.body
    return str(reply.document["choices"][0]["message"]["content"])


@pytest.mark.parametrize("path", ["/gateway", "/gateway/"])
def test_a_socket(stage: Stage, path: str) -> None:
    """Challenge, connect, hello; with the scopes that the agent gives, whatever the client wishes."""

    async def scene(socket: Socket) -> Any:
        nonce = json.loads((await socket.receive(20)).data)["payload"]["nonce"]
        wanted = ("operator.admin", "operator.read", "operator.write")
        params = _connect(nonce, ("openclaw-control-ui", "webchat"), wanted, False)
        await socket.send_json({"type": "req", "id": "1", "method": "connect", "params": params})
        hello = await _answer(socket, "1")
        await socket.send_json({"type": "req", "id": "2", "method": "config.patch", "params": {}})
        return hello, await _answer(socket, "2")

    hello, patched = with_socket(stage.person, scene, path)
    assert hello["ok"], hello
    assert sorted(hello["payload"]["auth"]["scopes"]) == ["operator.read", "operator.write"]
    assert not patched["ok"]


def test_a_turn_with_a_tool(stage: Stage) -> None:
    """The agent's tool runs, and its output comes back; to another member too."""
    assert "42" in say(stage, "run: echo $((6 * 7))")
    assert "hello there" in say(stage, "hello there", stage.another())


def test_a_turn_that_streams(stage: Stage) -> None:
    body = json.dumps(
        {"model": "openclaw", "stream": True, "messages": [{"role": "user", "content": "well met"}]}
    )
    reply = stage.person.ask("POST", CHAT, body.encode())
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert b"well met" in reply.body
    assert reply.body.rstrip().endswith(b"data: [DONE]")


def test_the_key_arrives(stage: Stage) -> None:
    """Sealed, delivered, opened and handed over: the model is asked with it."""
    assert sha256(KEY).hexdigest() in say(stage, "key?")


def test_its_tools_do_not_find_it(stage: Stage) -> None:
    """Neither in their environment nor in the gateway's, and the agent gives nothing more."""
    for command in ("env", "tr '\\0' '\\n' </proc/$PPID/environ", "cat $OPENCLAW_CONFIG_PATH"):
        said = say(stage, f"run: {command}").encode()
        assert len(said) > 20
        for secret in (KEY, OTHER):
            assert not any(trace in said for trace in traces(secret))
    ask = f'echo \'{{"ids": ["MODEL_KEY"]}}\' | PORTAL_SECRET_SOCKET={stage.launcher.secrets} python3 {PROGRAM} 2>&1'
    assert "gives no secrets now" in say(stage, f"run: {ask}; echo ended")
    assert not stage.launcher.secrets.exists()


def test_nothing_of_it_is_on_the_disk(stage: Stage) -> None:
    """Of the gateway's state and of the agent's; the vault holds boxes."""
    assert found_in(stage.launcher.folder / "gateway", KEY, OTHER) == []
    assert found_in(stage.site.data, KEY, OTHER) == []


def test_the_page(stage: Stage) -> None:
    page = stage.get("/gateway/", Accept="text/html")
    assert page.status == 200
    assert b'data-openclaw-control-ui-base-path="/gateway"' in page.body
    assert stage.get("/gateway/control-ui-config.json").status == 200
    assert stage.get("/gateway-api/v1/models").document["object"] == "list"


def test_a_changed_and_a_revoked_key(stage: Stage) -> None:
    """The gateway starts anew with another value, and stops when there is none. Last: it ends the gateway."""
    starts = stage.launcher.starts
    deliver(stage, "MODEL_KEY", b"another", 2)
    assert stage.state() in {"stopping", "starting", "off"}
    stage.until("ready", 120)
    assert stage.launcher.starts == starts + 1
    assert sha256(b"another").hexdigest() in say(stage, "key?")
    deliver(stage, "GITHUB_TOKEN", b"of no concern", 2)
    assert stage.state() == "ready"
    body = {"name": "MODEL_KEY", "version": 3}
    assert call(stage.agent, stage.site, "POST", "/v1/secrets/revoke", body)[0] == 200
    stage.until("off", 60)
    refused = stage.person.ask("POST", "/v1/gateway/start")
    assert (refused.status, refused.code) == (409, "secret_missing")
