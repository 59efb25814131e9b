"""The gateway in a real guest: consent, a sealed key, a socket, a turn, what cannot reach it, and how it ends."""

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from protocol.enrolment import runtime_dns_name
from protocol.persons import Purpose
from protocol.sealed import key_id, seal
from protocol.sessions import PROOF_HEADER, SESSION_HEADER, Request, prove
from protocol.tokens import sign
from provisioning.fleet_keys import token_seed
from provisioning.models import GuestImage, Host
from tenants.models import Plan, Tenant
from tests.e2e.members import Member
from tests.e2e.test_jobs import Worker
from tests.gateway.native import _answer, _connect
from tests.guest.boxes import traces
from tests.protocol.people import OWNER
from tests.provisioning.workers import created

pytestmark = [
    pytest.mark.guest,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(2400),
]
BOOT_SECONDS = 400.0
START_SECONDS = 620.0
IDLE_SECONDS = 60
KEY = b"guest-key-30f7-tell-tale"
CHAT = "/gateway-api/v1/chat/completions"
MODEL = {
    "base_url": "http://127.0.0.1:18790/v1",
    "name": "rehearsal",
    "api": "openai-completions",
    "secret": "MODEL_KEY",
}
REACHES = """
    import os, socket

    def tried(deed):
        try:
            return repr(deed())
        except Exception as failure:
            return type(failure).__name__

    def tcp(port):
        with socket.create_connection(("127.0.0.1", port), timeout=3) as line:
            line.sendall(b"GET /readyz HTTP/1.0" + b"\\r\\n\\r\\n")
            return line.recv(50)

    def unix(path):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(3)
            line.connect(path)
            return line.recv(50)

    print("gateway", tried(lambda: tcp(18789)))
    print("model", tried(lambda: tcp(18790)))
    print("resolver", tried(lambda: unix("/run/portal-agent/secrets")))
    print("launcher", tried(lambda: unix("/run/portal/launcher.sock")))
    print("state", tried(lambda: os.listdir("/var/lib/portal/gateway")))
    print("config", tried(lambda: open("/run/portal/gateway/openclaw.json").read()))
    print("modules", tried(lambda: os.listdir("/run/portal-gateway")))
"""


def test_the_gateway_in_a_real_guest(
    real_host: Host, real_image: GuestImage, tenant: Tenant, settings: Any
) -> None:
    """One boot, everything in turn; figures are printed."""
    Plan.objects.update(memory_mib=2048, disk_gib=2)
    tenant.refresh_from_db()
    settings.GATEWAY_IDLE_SECONDS = IDLE_SECONDS
    runtime = created(tenant, BOOT_SECONDS)
    member = Member.sign_in(runtime, real_host)
    for check in (
        without_consent,
        starts,
        speaks,
        turns,
        hides,
        keeps_jobs_out,
        comes_back,
        goes_idle,
        stops,
    ):
        began = time.monotonic()
        check(member)
        print(f"{check.__name__}: {time.monotonic() - began:.1f} s")  # noqa: T201 - figures


def told(member: Member) -> Any:
    return member.ask("GET", "/v1/gateway").json()


def until(member: Member, state: str, seconds: float = START_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while (found := told(member))["state"] != state:
        assert time.monotonic() < deadline, found
        assert state == "failed" or found["state"] != "failed", found
        time.sleep(1)
    return found


def agree(member: Member, version: int, always_on: bool = False) -> None:
    tenant = str(member.runtime.tenant_id)
    consent = {"version": version, "tenant_id": tenant, "agents": True, "always_on": always_on}
    member.portal.deliver_consents(consent, OWNER.sign(Purpose.CONSENT, consent))


def say(member: Member, text: str) -> str:
    answer = member.post(CHAT, {"model": "openclaw", "messages": [{"role": "user", "content": text}]})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def without_consent(member: Member) -> None:
    """Nothing starts, whoever asks."""
    assert member.post("/v1/gateway/start", {}).json()["error"] == "agents_not_agreed"
    assert told(member)["state"] == "off"


def starts(member: Member) -> None:
    """A key comes sealed, an owner chooses the model and agrees; the gateway becomes ready."""
    public = bytes.fromhex(member.ask("GET", "/v1/vault").json()["sealing"]["current"]["public_key"])
    sealed = b64encode(seal(public, KEY)).decode()
    body = {"name": "MODEL_KEY", "version": 1, "key_id": key_id(public), "sealed": sealed}
    assert member.portal._call("PUT", "/v1/secrets", body)["state"] == "held"
    chosen = member.ask("PUT", "/v1/gateway/model", json.dumps({"model": MODEL}).encode())
    assert chosen.status_code == 200, chosen.text
    agree(member, 1)
    assert member.post("/v1/gateway/start", {}).status_code == 202
    until(member, "ready")
    status = member.portal.status()
    assert status["gateway"] == {"state": "ready", "result": ""}


def speaks(member: Member) -> None:
    """One socket: challenge, connect, hello; and the gateway's page."""

    url = f"https://{member.address}:{member.port}/gateway/"
    sent, context = headers(member, "/gateway/"), member.portal._context(verified=True)
    name = runtime_dns_name(str(member.runtime.pk))

    async def scene() -> Any:
        async with aiohttp.ClientSession() as client:
            socket = await client.ws_connect(url, headers=sent, ssl=context, server_hostname=name)
            nonce = json.loads((await socket.receive(60)).data)["payload"]["nonce"]
            wanted = ("operator.admin", "operator.read", "operator.write")
            params = _connect(nonce, ("openclaw-control-ui", "webchat"), wanted, False)
            await socket.send_json({"type": "req", "id": "1", "method": "connect", "params": params})
            hello = await asyncio.wait_for(_answer(socket, "1"), 60)
            await socket.close()
            return hello

    hello = asyncio.run(scene())
    assert hello["ok"], hello
    assert sorted(hello["payload"]["auth"]["scopes"]) == ["operator.read", "operator.write"]
    page = member.ask("GET", "/gateway/", Accept="text/html")
    assert (page.status_code, "openclaw" in page.text.lower()) == (200, True)


def headers(member: Member, path: str) -> dict[str, str]:
    member.counter += 1
    token = sign(member.portal._token("GET", path, b""), token_seed())
    shown = prove(OWNER.seed, member.session, Request.of("GET", path), member.counter)
    return {"Authorization": f"Bearer {token}", SESSION_HEADER: member.session, PROOF_HEADER: shown}


def turns(member: Member) -> None:
    """One turn with a tool; and the model is asked with the key that was sealed."""
    assert "42" in say(member, "run: echo $((6 * 7))")
    assert sha256(KEY).hexdigest() in say(member, "key?")
    worker = Worker(member)
    job = str(member.post("/v1/jobs", {"kind": "message", "text": "well met"}).json()["id"])
    assert worker.until(job, seconds=120)["state"] == "succeeded"
    assert b"well met" in worker.output(job)


def hides(member: Member) -> None:
    """Its tools find no key: not in any environment, not at the agent, not in its own files."""
    for command in (
        "env",
        "cat /proc/$PPID/environ",
        "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | head -c 4000",
        "grep -rl tell-tale /var/lib/portal/gateway /run/portal-gateway /run/portal/gateway /tmp 2>/dev/null; echo looked",
    ):
        said = say(member, f"run: {command}").encode()
        assert len(said) > 4
        assert not any(trace in said for trace in traces(KEY)), command
    asked = say(
        member, 'run: echo \'{"ids": ["MODEL_KEY"]}\' | /usr/lib/portal/gateway-secret 2>&1; echo ended'
    )
    assert "gives no secrets now" in asked
    who = say(
        member, "run: id -un; ls /var/lib/portal/agent 2>&1; ls /run/portal/launcher.sock 2>&1; echo ended"
    )
    assert "gateway" in who
    assert "denied" in who


def keeps_jobs_out(member: Member) -> None:
    """A tenant's job reaches neither port, nor the agent's sockets, nor the gateway's files."""
    worker = Worker(member)
    job = worker.script(REACHES)
    assert worker.until(job)["state"] == "succeeded"
    found = dict(line.split(" ", 1) for line in worker.output(job).decode().splitlines())
    assert found.keys() == {"gateway", "model", "resolver", "launcher", "state", "config", "modules"}
    for name, came in found.items():
        assert came in {"PermissionError", "FileNotFoundError", "TimeoutError", "ConnectionRefusedError"}, (
            name,
            came,
        )


def comes_back(member: Member) -> None:
    """Over its memory it is killed and reported; always on, it comes back."""
    agree(member, 2, always_on=True)
    hog = "python3 -c 'x = [bytearray(1 << 26) for _ in range(64)]; [y.__setitem__(slice(None), b\"x\" * len(y)) for y in x]'"
    member.post("/v1/jobs", {"kind": "message", "text": f"run: {hog}"})
    deadline = time.monotonic() + 200
    while (found := told(member))["state"] == "ready":
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert "used more memory" in found["reason"], found
    until_back(member)
    assert "back" in say(member, "back")


def until_back(member: Member) -> None:
    deadline = time.monotonic() + START_SECONDS
    while told(member)["state"] != "ready":
        assert time.monotonic() < deadline, told(member)
        time.sleep(1)


def goes_idle(member: Member) -> None:
    """Without always-on and without use it stops."""
    agree(member, 3)
    waited(member, lambda: told(member)["state"] == "off", IDLE_SECONDS + 90)
    assert told(member)["reason"] == "Nobody used it."


def stops(member: Member) -> None:
    """At a member's word, even while it starts."""
    assert member.post("/v1/gateway/start", {}).status_code == 202
    until(member, "starting")
    assert member.post("/v1/gateway/stop", {}).json()["state"] == "off"
    assert told(member)["reason"] == "A member stopped it."
    assert member.portal.status()["gateway"]["state"] == "off"


def waited(member: Member, met: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, told(member)
        time.sleep(2)
