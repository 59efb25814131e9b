"""``python -m guest.gateway.selftest``: in a guest that only checks its image, one whole use of the gateway.

It stands where the agent stands: asks the launcher, hands a secret over while the gateway starts, and speaks
to it as its trusted proxy. It ends by itself; the result is one line of JSON on standard output.
"""

import asyncio
import json
import pwd
import secrets
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from guest.agent.resolver import StartWindow
from guest.gateway import places, rehearsal
from guest.gateway.config import PORT, Headers, Model, Settings, limits, render

LAUNCHER = Path("/run/portal/launcher.sock")
PREFIX = "portal-selftest: "
READY_SECONDS = 400.0
TURN_SECONDS = 200.0
STOP_SECONDS = 60.0
TASKS = 256
KEY = "MODEL_KEY"
LONGEST = 64 * 1024


class Failed(Exception):
    """The image is not good; the message says at what."""


async def main_scene() -> dict[str, Any]:
    """Start, ready, a turn with a tool, secrets out of its reach, stop. Raises Failed."""
    marker = f"selftest-{secrets.token_hex(16)}"
    headers = Headers.fresh()
    uid = pwd.getpwnam("gateway").pw_uid
    window = StartWindow(Path(places.SECRET_SOCKET), uid, {KEY: marker.encode()}.__getitem__)
    await window.open(READY_SECONDS)
    runner = web.AppRunner(rehearsal.application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", rehearsal.PORT).start()
    found: dict[str, Any] = {"booted": _uptime(), "guest_mib": _memory("MemTotal") // 1024}
    began = time.monotonic()
    bounds = limits(found["guest_mib"] + 64)  # the kernel keeps some of what the hypervisor gives
    model = Model(f"http://127.0.0.1:{rehearsal.PORT}/v1", rehearsal.NAME, "openai-completions", KEY)
    config = json.dumps(render(Settings("https://runtime.invalid", "tenant", headers, model)))
    sizes = {"memory_mib": bounds.memory_mib, "heap_mib": bounds.heap_mib, "tasks": TASKS}
    await ask({"verb": "gateway_start", "config": config, **sizes})
    sent = {headers.user: "tenant", headers.request: "1", "X-Forwarded-For": "203.0.113.5"}
    sent["x-openclaw-scopes"] = "operator.read,operator.write"
    async with aiohttp.ClientSession(f"http://127.0.0.1:{PORT}", headers=sent) as session:
        await _until_ready(session)
        window.close()
        found["ready"] = round(time.monotonic() - began, 1)
        found["idle_bytes"] = (await ask({"verb": "gateway_status"}))["memory_bytes"]
        await _turns(session, marker, found)
    found["used_bytes"] = (await ask({"verb": "gateway_status"}))["memory_bytes"]
    found["available_mib"] = _memory("MemAvailable") // 1024
    began = time.monotonic()
    await ask({"verb": "gateway_stop"})
    await _until_ended()
    found["stop"] = round(time.monotonic() - began, 1)
    await runner.cleanup()
    return found


async def _turns(session: aiohttp.ClientSession, marker: str, found: dict[str, Any]) -> None:
    began = time.monotonic()
    if await _say(session, "run: echo $((6 * 7))") != "42":
        raise Failed("the agent's turn did not give what its tool said")
    found["first_turn"] = round(time.monotonic() - began, 1)
    began = time.monotonic()
    if await _say(session, "key?") != sha256(marker.encode()).hexdigest():
        raise Failed("the model was not asked with the secret")
    found["second_turn"] = round(time.monotonic() - began, 1)
    half = len(marker) // 2
    # In two halves, so that the command itself is not what is found.
    search = f"grep -rls '{marker[:half]}''{marker[half:]}' /proc/*/environ /run /tmp /var/lib/portal /etc"
    resolver = "/usr/lib/portal/gateway-secret"
    again = f"""echo '{{"ids": ["{KEY}"]}}' | {resolver} 2>&1"""
    said = await _say(
        session, f"run: env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; {search}; {again}"
    )
    if marker in said:
        raise Failed("a tool saw the secret in an environment")
    if "the agent gives no secrets now" not in said:
        raise Failed("a tool was not refused at the resolver")
    if any(line.startswith("/") for line in said.splitlines()):
        raise Failed("a tool found the secret in a file")


async def _say(session: aiohttp.ClientSession, text: str) -> str:
    asked = {"model": "openclaw", "messages": [{"role": "user", "content": text}]}
    limit = aiohttp.ClientTimeout(total=TURN_SECONDS)
    try:
        async with session.post("/v1/chat/completions", json=asked, timeout=limit) as answer:
            document = await answer.json(content_type=None)
        return str(document["choices"][0]["message"]["content"]).strip()
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as failure:
        raise Failed(f"the agent's turn failed: {type(failure).__name__}") from None


async def _until_ready(session: aiohttp.ClientSession) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                try:
                    async with session.get("/readyz") as answer:
                        if (await answer.json(content_type=None)).get("ready") is True:
                            return
                except (aiohttp.ClientError, ValueError, AttributeError):
                    pass
                state = await ask({"verb": "gateway_status"})
                if state["state"] != "running":
                    raise Failed(f"the gateway ended while it started: {state['result']}")
                await asyncio.sleep(1)
    except TimeoutError:
        raise Failed(f"the gateway was not ready after {READY_SECONDS:.0f} s") from None


async def _until_ended() -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while (state := await ask({"verb": "gateway_status"}))["state"] == "running":
        if time.monotonic() > deadline:
            raise Failed(f"the gateway had not ended after {STOP_SECONDS:.0f} s")
        await asyncio.sleep(0.5)
    if state["result"] != "success":
        raise Failed(f"the gateway ended as {state['result']}, not as it should")


async def ask(document: dict[str, Any]) -> dict[str, Any]:
    """One request to the launcher. Raises Failed when it refuses."""
    reader, writer = await asyncio.open_unix_connection(LAUNCHER)
    try:
        writer.write(json.dumps(document).encode() + b"\n")
        async with asyncio.timeout(60):
            said: dict[str, Any] = json.loads(await reader.read(LONGEST))
    finally:
        writer.close()
    if said.get("ok") is not True:
        raise Failed(f"the launcher refused {document['verb']}: {said.get('message')}")
    return said


def _uptime() -> float:
    return round(float(Path("/proc/uptime").read_text().split()[0]), 1)


def _memory(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise Failed("the kernel tells no memory")


def main() -> int:
    """Returns the exit status."""
    try:
        result = {"good": True, **asyncio.run(main_scene())}
    except Failed as failure:
        result = {"good": False, "reason": str(failure)}
    except Exception as failure:  # whatever it is, the host must hear of it
        result = {"good": False, "reason": f"{type(failure).__name__}: {failure}"}
    sys.stdout.write(f"\n{PREFIX}{json.dumps(result)}\n")
    sys.stdout.flush()
    return 0 if result["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
