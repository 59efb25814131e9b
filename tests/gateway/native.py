"""The real gateway on this machine, from the tree that the guest image holds, and a client that speaks to it."""

import asyncio
import base64
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings

from guest.gateway import places
from guest.gateway.config import Headers, Model, Settings, render
from guest.image.gateway_tree import REPORT, digest

ORIGIN = "https://acme.portal.test"
USER = "tenant"
SCOPES = "operator.read,operator.write"
READY_SECONDS = 120
PROTOCOL = 4


@dataclass
class Native:
    """A running gateway."""

    port: int
    headers: Headers
    state: Path
    log: Path
    process: "subprocess.Popen[bytes]"
    token: str = ""

    def sent(self, **changed: str | None) -> dict[str, str]:
        """What the agent sends; a changed value replaces one, None leaves it out."""
        whole: dict[str, str | None] = {
            "user": USER,
            "request": "1",
            "forwarded": "203.0.113.5",
            "scopes": SCOPES,
            "origin": None,
            **changed,
        }
        names = {
            "user": self.headers.user,
            "request": self.headers.request,
            "forwarded": "X-Forwarded-For",
            "scopes": "x-openclaw-scopes",
            "origin": "Origin",
        }
        return {names[name]: value for name, value in whole.items() if value is not None}

    def http(self, path: str, body: Any = None, **changed: str | None) -> tuple[int, str]:
        """Status and text of one request."""
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.sent(**changed), "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode(errors="replace")

    def say(self, text: str) -> str:
        """The agent's answer to one message."""
        asked = {"model": "openclaw", "messages": [{"role": "user", "content": text}]}
        status, said = self.http("/v1/chat/completions", asked)
        assert status == 200, said
        return str(json.loads(said)["choices"][0]["message"]["content"])


@dataclass(frozen=True)
class Outcome:
    """How a WebSocket's hand-shake ended."""

    kind: str
    """``hello``, ``refused`` (with the socket's code) or ``status`` (no upgrade)."""
    code: int = 0
    scopes: tuple[str, ...] = ()
    said: str = ""
    answers: dict[str, Any] = field(default_factory=dict)


def tree() -> Path:
    """The gateway's files, built with the image. Their absence is a failure, not a reason to skip."""
    found = Path(settings.IMAGES_DIR) / ".gateway" / f"t-{digest()[:12]}"
    assert (found / REPORT).is_file(), "no current gateway tree: run `make image`"
    return found


@contextmanager
def running(
    folder: Path, model: Model | None = None, told: Mapping[str, str] | None = None, **more: Any
) -> Iterator[Native]:
    """A gateway with a state of its own below ``folder``, on a free port of loopback.

    ``told``: what its environment holds beside the usual.
    """
    state, workspace = folder / "state", folder / "workspace"
    for each in (state / "temporary", workspace, folder / "code"):
        each.mkdir(parents=True, exist_ok=True)
    headers = Headers.fresh()
    port = free_port()
    rendered: Any = render(Settings(ORIGIN, USER, headers, model, port=port, **more))
    rendered["agents"]["defaults"]["workspace"] = str(workspace)
    rendered["logging"]["file"] = str(folder / "own.log")
    config = folder / "openclaw.json"
    config.write_text(json.dumps(rendered))
    environment = places.environment(768, state=str(state), config=str(config), code=str(folder / "code"))
    found = tree()
    line = [
        str(found / "bin/node"),
        str(found / places.ENTRY.removeprefix(f"{places.TREE}/")),
        "gateway",
        "run",
    ]
    log = folder / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            line,
            env={**environment, **(told or {})},
            cwd=workspace,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    native = Native(port, headers, state, log, process)
    try:
        _until_ready(native)
        yield native
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def knock(native: Native, *, path: str = "/", device: bool = False, calls: dict[str, Any] | None = None,
          client: tuple[str, str] = ("openclaw-control-ui", "webchat"),
          wanted: tuple[str, ...] = ("operator.read", "operator.write"), **changed: str | None) -> Outcome:  # fmt: skip
    """Open a WebSocket as the page does, then make ``calls`` (method to parameters)."""
    headers = native.sent(**{"origin": ORIGIN, **changed})
    return asyncio.run(_knock(native, path, headers, device, calls or {}, client, wanted))


async def _knock(native: Native, path: str, headers: dict[str, str], device: bool, calls: dict[str, Any],
                 client: tuple[str, str], wanted: tuple[str, ...]) -> Outcome:  # fmt: skip
    url = f"http://127.0.0.1:{native.port}{path}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        try:
            socket_ = await session.ws_connect(url, headers=headers)
        except aiohttp.WSServerHandshakeError as refused:
            return Outcome("status", refused.status)
        challenge = await socket_.receive()
        if challenge.type is not aiohttp.WSMsgType.TEXT:
            return Outcome("refused", socket_.close_code or 0)
        nonce = json.loads(challenge.data)["payload"]["nonce"]
        params = _connect(nonce, client, wanted, device)
        await socket_.send_json({"type": "req", "id": "1", "method": "connect", "params": params})
        hello = await _answer(socket_, "1")
        if hello is None or not hello["ok"]:
            if hello is not None:
                await socket_.receive()
            said = "" if hello is None else str(hello["error"].get("message"))
            return Outcome("refused", socket_.close_code or 0, said=said)
        answers = {}
        for method, asked in calls.items():
            await socket_.send_json({"type": "req", "id": method, "method": method, "params": asked})
            answers[method] = await _answer(socket_, method)
        await socket_.close()
        return Outcome("hello", scopes=tuple(sorted(hello["payload"]["auth"]["scopes"])), answers=answers)


async def _answer(socket_: aiohttp.ClientWebSocketResponse, name: str) -> dict[str, Any] | None:
    async for message in socket_:
        document: dict[str, Any] = json.loads(message.data)
        if document.get("type") == "res" and document.get("id") == name:
            return document
    return None


def _connect(nonce: str, client: tuple[str, str], wanted: tuple[str, ...], device: bool) -> dict[str, Any]:
    name, mode = client
    params: dict[str, Any] = {
        "minProtocol": PROTOCOL,
        "maxProtocol": PROTOCOL,
        "client": {"id": name, "version": "1", "platform": "test", "mode": mode},
        "role": "operator",
        "scopes": list(wanted),
        "caps": [],
    }
    if device:
        params["device"] = _device(nonce, client, wanted)
    return params


def _device(nonce: str, client: tuple[str, str], wanted: tuple[str, ...]) -> dict[str, Any]:
    """A device's own new key, and its signature over the challenge."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    identity, at = sha256(public).hexdigest(), int(time.time() * 1000)
    signed = "|".join(["v2", identity, *client, "operator", ",".join(wanted), str(at), "", nonce])
    return {
        "id": identity,
        "publicKey": _encoded(public),
        "signature": _encoded(key.sign(signed.encode())),
        "signedAt": at,
        "nonce": nonce,
    }


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _until_ready(native: Native) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert native.process.poll() is None, native.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{native.port}/readyz", timeout=5) as answer:
                if json.loads(answer.read()).get("ready") is True:
                    return
        except (OSError, ValueError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"not ready after {READY_SECONDS} s: {native.log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
