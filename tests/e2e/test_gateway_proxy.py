"""The gateway through nginx: pages, the API and sockets, before a live agent with a gateway that tells what it hears."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from django.contrib.auth.models import User

from audit.models import Entry
from protocol.persons import Purpose
from protocol.sessions import Request, prove
from provisioning.driver.simulated import SimulatedDriver
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.runtime_client import RuntimeClient
from provisioning.services import runtime_create
from provisioning.specs import runtime_spec
from tenants.models import Plan, Tenant
from tests.e2e.conftest import Portal
from tests.e2e.test_proxy import ACME, LAPTOP, SAME, TESTER, cookies, device_session, passkey_session, proven
from tests.e2e.test_proxy import way as way
from tests.gateway.conftest import CHAT, free_port, wait_for
from tests.gateway.fake_launcher import Launcher, launching
from tests.protocol.people import OWNER, entry, keyring
from tests.provisioning.workers import drain

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    (tmp_path / "launcher").mkdir()
    with launching(tmp_path / "launcher") as made:
        yield made


@pytest.fixture
def runtime(
    portal: Portal,
    simulated_host: Host,
    tenant: Tenant,
    owner: User,
    image: GuestImage,
    launcher: Launcher,
    monkeypatch: pytest.MonkeyPatch,
) -> Runtime:
    """A machine large enough, with a launcher; its owner agrees to agents, and the gateway is ready."""
    usual, port, rehearsal = SimulatedDriver._agent_command, str(free_port()), str(free_port())

    def command(driver: SimulatedDriver, spec: Any) -> list[str]:
        more = [
            "--launcher",
            str(launcher.path),
            "--gateway-socket",
            str(launcher.secrets),
            "--gateway-look",
            "0.3",
        ]
        more += ["--gateway-port", port, "--rehearsal-port", rehearsal, "--gateway-user", str(os.getuid())]
        return [*usual(driver, spec), *more]

    monkeypatch.setattr(SimulatedDriver, "_agent_command", command)
    Plan.objects.update(memory_mib=2048)
    tenant.refresh_from_db()
    done = drain(runtime_create(actor=TESTER, tenant=tenant))
    assert done.state == Operation.State.SUCCEEDED, done.error_message
    runtime = Runtime.objects.get()
    assert runtime_spec(runtime).memory_mib == 2048
    document = keyring(str(tenant.pk), entry(OWNER.key), entry(LAPTOP.key, name="Laptop"))
    client = RuntimeClient.dial(runtime)
    client.deliver_keyring(document, OWNER.sign(Purpose.KEYRING, document))
    consent = {"version": 1, "tenant_id": str(tenant.pk), "agents": True, "always_on": True}
    client.deliver_consents(consent, OWNER.sign(Purpose.CONSENT, consent))
    wait_for(lambda: client.status()["gateway"]["state"] == "ready", 120)
    return runtime


def shown(session: str, method: str, path: str, counter: int, body: bytes = b"") -> dict[str, str]:
    return {"Portal-Session": session,
            "Portal-Proof": prove(OWNER.seed, session, Request.of(method, path, body), counter)}  # fmt: skip


def open_socket(portal: Portal, path: str, headers: dict[str, str], say: str = "hello") -> tuple[Any, str]:
    async def scene() -> tuple[Any, str]:
        url = f"http://127.0.0.1:{portal.port}{path}"
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
            client.ws_connect(url, headers={"Host": f"{ACME}:{portal.port}", **headers}) as socket,
        ):
            first = json.loads(await socket.receive_str(timeout=10))
            await socket.send_str(say)
            return first, await socket.receive_str(timeout=10)

    return asyncio.run(asyncio.wait_for(scene(), 30))


def refusal(portal: Portal, path: str, headers: dict[str, str]) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
        open_socket(portal, path, headers)
    return int(failure.value.status)


LIES = {"X-Forwarded-For": "127.0.0.1", "x-openclaw-scopes": "operator.admin", "Authorization": "Bearer x",
        "Sec-WebSocket-Protocol": "x"}  # fmt: skip


def test_a_device_keys_socket(portal: Portal, way: dict[str, str], runtime: Runtime) -> None:
    """Recorded once, when it is opened; what the caller says of himself is not heard by the gateway."""
    session = device_session(portal, way)
    before = Entry.objects.filter(action="request.routed").count()
    first, echo = open_socket(
        portal, "/gateway/", cookies(way) | LIES | shown(session, "GET", "/gateway/", 1)
    )
    assert (first["event"], echo) == ("connect.challenge", "hello")
    told = dict(first["headers"])
    assert told["x-forwarded-for"] == "203.0.113.5"
    assert told["x-openclaw-scopes"] == "operator.read,operator.write,operator.approvals"
    assert told["origin"] == portal.origin("acme")
    assert not told.keys() & {"cookie", "authorization", "portal-session", "sec-websocket-protocol"}
    assert Entry.objects.filter(action="request.routed").count() == before + 1


def test_a_passkeys_socket(portal: Portal, way: dict[str, str], runtime: Runtime) -> None:
    """With the page's origin, and with no other."""
    mine = cookies(way, **{"__Host-guest": passkey_session(portal, way)})
    assert open_socket(portal, "/gateway", mine | {"Origin": portal.origin("acme")})[1] == "hello"
    for origin in ({}, {"Origin": portal.origin("zebra")}, {"Origin": portal.base}, {"Origin": "null"}):
        assert refusal(portal, "/gateway/", mine | origin | SAME) == 403


def test_who_has_not_opened_the_machine(portal: Portal, way: dict[str, str], runtime: Runtime) -> None:
    """The portal is asked about sockets as about all else."""
    session = device_session(portal, way)
    assert refusal(portal, "/gateway/", shown(session, "GET", "/gateway/", 1)) == 401
    assert refusal(portal, "/gateway/", cookies(way)) == 403


@pytest.mark.parametrize(
    "path", ["/v1/workspace", "/gateway/other", "/v1/../gateway/", "/gateway-api/v1/models"]
)
def test_no_socket_elsewhere(portal: Portal, way: dict[str, str], runtime: Runtime, path: str) -> None:
    """Elsewhere nginx passes no wish for one on; what comes back is no switch of protocols."""
    session = device_session(portal, way)
    headers = (
        cookies(way) | shown(session, "GET", path, 1) | {"Upgrade": "websocket", "Connection": "Upgrade"}
    )
    assert portal.ask(ACME, "GET", path, headers=headers).status_code in {200, 400, 403, 404}


def test_a_page_and_its_fence(portal: Portal, way: dict[str, str], runtime: Runtime) -> None:
    """Both policies reach the browser, compressed answers stay so, and no cookie of the gateway's is set."""
    mine = cookies(way, **{"__Host-guest": passkey_session(portal, way)}) | SAME
    page = portal.ask(ACME, "GET", "/gateway/hostile", headers=mine)
    assert page.text == "<script>1</script>"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "set-cookie" not in page.headers
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["cross-origin-embedder-policy"] == "require-corp"
    own = portal.ask(ACME, "GET", "/gateway/own-policy", headers=mine)
    assert own.headers.get_list("content-security-policy")[1] == "script-src 'sha256-abc'"
    told = portal.ask(ACME, "GET", "/gateway/x", headers=mine | {"Accept": "text/html"}).json()
    assert dict(told["headers"])["accept"] == "text/html"
    worker = portal.ask(ACME, "GET", "/gateway/sw.js", headers=mine | {"Service-Worker": "script"})
    assert (worker.status_code, worker.json()["error"]) == (403, "not_in_a_page")


def test_the_api_streams(portal: Portal, way: dict[str, str], runtime: Runtime) -> None:
    """Through nginx unbuffered: the first words come long before the last."""
    session = device_session(portal, way)
    body = json.dumps({"stream": True}).encode()
    headers = cookies(way) | shown(session, "POST", CHAT, 1, body) | {"Host": f"{ACME}:{portal.port}"}
    import httpx

    url = f"http://127.0.0.1:{portal.port}{CHAT}"
    with httpx.stream("POST", url, headers=headers, content=body, timeout=15, trust_env=False) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        first = next(answer.iter_raw())
    assert first.startswith(b"data: ")
    assert first.count(b"\n\n") < 900


def test_a_machine_that_is_closed(portal: Portal, way: dict[str, str], runtime: Runtime) -> None:
    session = device_session(portal, way)
    RuntimeClient.dial(runtime).set_suspended(True)
    assert refusal(portal, "/gateway/", cookies(way) | shown(session, "GET", "/gateway/", 1)) == 403
    wait_for(lambda: RuntimeClient.dial(runtime).status()["gateway"]["state"] == "off")
    headers = cookies(way) | proven(session, "GET", "/gateway/x", 2)
    assert portal.ask(ACME, "GET", "/gateway/x", headers=headers).status_code == 403
