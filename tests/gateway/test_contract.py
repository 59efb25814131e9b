"""What the pinned release answers to whom, asked of the real package: the tables of ``docs/gateway-image.md``.

A change of release that changes an answer fails here, before it reaches a guest.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from guest.agent.resolver import StartWindow
from guest.gateway import rehearsal
from guest.gateway.config import Model
from guest.image import recipe
from tests.gateway.native import ORIGIN, Native, free_port, knock, running

MARKER = "native-4f1d9a77c2"
PAGE = "<!doctype html>"
READ, WRITE, ADMIN = "operator.read", "operator.write", "operator.admin"


class Window(threading.Thread):
    """The agent's start window, in a loop of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path, self.asked = path, list[str]()
        self._open, self._close = threading.Event(), threading.Event()

    def run(self) -> None:
        asyncio.run(self._scene())

    async def _scene(self) -> None:
        window = StartWindow(self._path, os.getuid(), self._look_up)
        await window.open()
        self._open.set()
        while not self._close.is_set():
            await asyncio.sleep(0.05)
        window.close()

    def program(self) -> str:
        """What the gateway is to ask by: the image's own program, at this window."""
        program = recipe.OVERLAY / "usr/lib/portal/gateway-secret"
        resolver = self._path.with_name("resolver")
        resolver.write_text(f"#!/bin/sh\nPORTAL_SECRET_SOCKET={self._path} exec {program}\n")
        resolver.chmod(0o700)
        return str(resolver)

    def _look_up(self, name: str) -> bytes:
        self.asked.append(name)
        return {"MODEL_KEY": MARKER.encode()}[name]

    def __enter__(self) -> "Window":
        self.start()
        assert self._open.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._close.set()
        self.join(10)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Native]:
    """One gateway for the module: it started with a key from the window, which is closed by now."""
    folder = tmp_path_factory.mktemp("gateway")
    port = free_port()
    stand_in = subprocess.Popen(
        [sys.executable, "-m", "guest.gateway.rehearsal", "--port", str(port)], cwd=recipe.REPOSITORY
    )
    model = Model(f"http://127.0.0.1:{port}/v1", rehearsal.NAME, "openai-completions", "MODEL_KEY")
    window = Window(folder / "secrets")
    try:
        window.__enter__()
        with running(folder, model, resolver=window.program()) as found:
            window.__exit__()
            assert window.asked == ["MODEL_KEY"]
            yield found
    finally:
        stand_in.terminate()
        stand_in.wait(10)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 200),
        ({"user": "somebody"}, 401),
        ({"user": None}, 401),
        ({"request": None}, 401),
        # Loopback may be forged: the release accepts it, so nobody but the agent may reach the port.
        ({"forwarded": "127.0.0.1"}, 200),
        ({"forwarded": None}, 200),
        ({"scopes": None}, 200),
        ({"scopes": ""}, 403),
        ({"scopes": WRITE}, 200),
        ({"origin": ORIGIN}, 200),
        ({"origin": "https://evil.test"}, 401),
        ({"origin": "null"}, 401),
    ],
)
def test_http(native: Native, changed: dict[str, str | None], status: int) -> None:
    assert native.http("/v1/models", **changed)[0] == status


@pytest.mark.parametrize(("scopes", "status"), [(READ, 403), ("", 403), (f"{READ},{WRITE}", 200)])
def test_a_turn_takes_the_right_to_write(native: Native, scopes: str, status: int) -> None:
    asked = {"model": "openclaw", "messages": [{"role": "user", "content": "hello"}]}
    assert native.http("/v1/chat/completions", asked, scopes=scopes)[0] == status


@pytest.mark.parametrize(
    ("path", "status", "is_page"),
    [
        ("/gateway/", 200, True),
        ("/gateway", 200, True),
        # Any other word below the page is the page: look at the body, not at the status.
        ("/gateway/healthz", 200, True),
        ("/", 404, False),
        ("/x", 404, False),
        ("/startupz", 404, False),
        ("/control-ui-config.json", 404, False),
        ("/gateway/control-ui-config.json", 200, False),
    ],
)
def test_paths(native: Native, path: str, status: int, is_page: bool) -> None:
    found, said = native.http(path)
    assert (found, said.lower().startswith(PAGE)) == (status, is_page)


def test_the_pages_settings_need_an_identity(native: Native) -> None:
    assert native.http("/gateway/control-ui-config.json", user=None, request=None)[0] == 401


@pytest.mark.parametrize(("path", "member"), [("/healthz", "ok"), ("/readyz", "ready")])
def test_probes_answer_anybody(native: Native, path: str, member: str) -> None:
    status, said = native.http(path, user=None, request=None, forwarded=None, scopes=None)
    assert (status, json.loads(said)[member]) == (200, True)


@pytest.mark.parametrize(
    ("more", "scopes"),
    [
        ({}, (READ, WRITE)),
        ({"path": "/gateway/"}, (READ, WRITE)),
        ({"path": "/gateway"}, (READ, WRITE)),
        ({"device": True}, (READ, WRITE)),
        ({"scopes": READ}, (READ,)),
        ({"scopes": ""}, ()),
        ({"wanted": (ADMIN, READ)}, (READ,)),
        # What the page asks for is what it gets, unless the agent says less: it always does.
        ({"wanted": (ADMIN, READ), "scopes": None}, (ADMIN, READ)),
        ({"forwarded": "127.0.0.1"}, (READ, WRITE)),
        ({"forwarded": None}, (READ, WRITE)),
        # Only the page is spared a device of its own; what calls itself something else may do nothing.
        ({"client": ("cli", "cli")}, ()),
        ({"client": ("gateway-client", "backend")}, ()),
        ({"client": ("gateway-client", "backend"), "forwarded": None, "origin": None}, ()),
    ],
)
def test_websockets_and_their_scopes(native: Native, more: dict[str, Any], scopes: tuple[str, ...]) -> None:
    found = knock(native, calls={"sessions.list": {}, "config.get": {}}, **more)
    assert (found.kind, found.scopes) == ("hello", scopes)
    assert found.answers["sessions.list"]["ok"] is (READ in scopes)
    assert found.answers["config.get"]["ok"] is (READ in scopes)


@pytest.mark.parametrize(
    "more",
    [
        {"user": "somebody"},
        {"user": None},
        {"request": None},
        {"origin": "https://evil.test"},
        {"origin": None},
        {"client": ("cli", "cli"), "device": True},
        {"user": None, "request": None, "forwarded": None, "scopes": None, "origin": None},
    ],
)
def test_websockets_that_are_closed(native: Native, more: dict[str, Any]) -> None:
    found = knock(native, **more)
    assert (found.kind, found.code) == ("refused", 1008)


@pytest.mark.parametrize("method", ["config.set", "config.patch", "update.run"])
def test_read_and_write_change_no_configuration(native: Native, method: str) -> None:
    found = knock(native, calls={method: {"raw": "{}", "baseHash": ""}})
    assert found.answers[method]["ok"] is False


def test_the_key_reaches_the_model_and_nothing_else(native: Native) -> None:
    """The model is asked with it; a tool finds it in no environment, and no file of the gateway's holds it."""
    assert native.say("key?") == sha256(MARKER.encode()).hexdigest()
    assert native.say("run: echo $((6 * 7))").strip() == "42"
    assert MARKER not in native.say("run: env; tr '\\0' '\\n' < /proc/$PPID/environ")
    held = [
        path
        for path in native.state.parent.rglob("*")
        if path.is_file() and MARKER.encode() in path.read_bytes()
    ]
    assert held == []


def test_a_tool_cannot_ask_again(native: Native) -> None:
    resolver = native.state.parent / "resolver"
    said = native.say(f"""run: echo '{{"ids": ["MODEL_KEY"]}}' | {resolver}""")
    assert "the agent gives no secrets now" in said


def test_the_configuration_shows_no_key(native: Native) -> None:
    """Not even to somebody who may read all of it."""
    found = knock(native, calls={"config.get": {}}, wanted=(ADMIN, READ), scopes=None)
    assert found.answers["config.get"]["ok"] is True
    assert MARKER not in json.dumps(found.answers)
