"""The real gateway, with a proxy as its way out: its own requests, and those of its tools, go there."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from guest.gateway import rehearsal
from guest.gateway.config import Model
from guest.launcher.way_out import WayOut
from tests.gateway.native import Native, running
from tests.gateway.test_contract import MARKER, Window
from tests.guest.outside import CONTENT, REPOSITORY, Outside, outside


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with outside(tmp_path_factory.mktemp("outside")) as made:
        yield made


@pytest.fixture(scope="module")
def native(world: Outside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Native]:
    """One gateway, told of the proxy as in a guest; its model is outside, under a name that nobody resolves.

    With a key, for this release asks no model outside without one.
    """
    folder = tmp_path_factory.mktemp("gateway")
    told = WayOut(world.address, world.port).environment | {"NODE_EXTRA_CA_CERTS": str(world.authority)}
    model = Model("https://model.test/v1", rehearsal.NAME, "openai-completions", "MODEL_KEY")
    with (
        Window(folder / "secrets") as window,
        running(folder, model, told, resolver=window.program()) as found,
    ):
        yield found


def test_the_model_is_asked_by_way_of_the_proxy(native: Native, world: Outside) -> None:
    assert native.say("key?").strip() == sha256(MARKER.encode()).hexdigest()
    assert "model.test:443" in world.tunnels()
    assert "model.test /v1/chat/completions" in world.served


def test_nothing_else_is_asked_for(native: Native, world: Outside) -> None:
    """Neither a catalogue nor a feed: a tenant's list of outside connections shows what the tenant did."""
    native.say("well met")
    assert world.tunnels() == {"model.test:443"}
    assert all(line.startswith("CONNECT ") for line in world.asked)


def test_its_tools_are_told(native: Native, world: Outside) -> None:
    """Whatever the release takes out of their environment, the way out stays in it."""
    told = dict(
        line.split("=", 1) for line in native.say("run: env | grep -i proxy").splitlines() if "=" in line
    )
    assert told.items() >= WayOut(world.address, world.port).environment.items()


@pytest.mark.parametrize("command", [
    "curl -s --max-time 20 --cacert {ca} https://api.github.com/hello",
    "python3 -c \"import ssl, urllib.request as u; print(u.urlopen('https://api.github.com/hello',"
    " context=ssl.create_default_context(cafile='{ca}'), timeout=20).read().decode())\"",
    "{node} -e \"fetch('https://api.github.com/hello').then(a => a.text()).then(console.log)\"",
    "{node} -e \"require('https').get('https://api.github.com/hello', a => a.pipe(process.stdout))\"",
])  # fmt: skip
def test_programs_of_its_tools_go_there(native: Native, world: Outside, command: str) -> None:
    """With no option of their own but for the test's authority."""
    node = Path("/proc") / str(native.process.pid) / "exe"
    before = world.served.count("api.github.com /hello")
    said = native.say(f"run: {command.format(ca=world.authority, node=node.resolve())}")
    assert json.loads(said) == {"said": "hello"}, said
    assert world.served.count("api.github.com /hello") == before + 1


def test_a_tool_clones(native: Native, world: Outside) -> None:
    clone = f"git -c http.sslCAInfo={world.authority} clone -q https://github.com/{REPOSITORY} here"
    assert native.say(f"run: {clone} && cat here/hello.txt").strip() == CONTENT.strip()
    assert "github.com:443" in world.tunnels()


def test_a_refusal_is_told(native: Native, world: Outside) -> None:
    """Another name, and plain HTTP: the proxy says no at once, and the tool says so."""
    said = native.say("run: curl -sS --max-time 20 https://elsewhere.test/ 2>&1; echo ended")
    assert "403" in said
    assert "ended" in said
    said = native.say("run: curl -sS -o /dev/null -w '%{http_code}' --max-time 20 http://api.github.com/")
    assert said.strip() == "403"
    assert "GET http://api.github.com/ HTTP/1.1" in world.asked
