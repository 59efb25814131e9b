"""The real gateway's own page in a real browser, through nginx and the agent, inside the agent's fence."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from guest.agent.gate import RATE_BURST
from protocol.sessions import Request, prove
from provisioning.models import Runtime
from provisioning.runtime_client import RuntimeClient
from tests.e2e.conftest import Portal
from tests.e2e.test_gateway_page import visitor as visitor
from tests.e2e.test_gateway_proxy import runtime as runtime
from tests.e2e.test_proxy import ACME, cookies, device_session
from tests.e2e.test_proxy import way as way
from tests.gateway.conftest import wait_for
from tests.gateway.fake_launcher import Launcher, launching
from tests.gateway.real import real
from tests.portal.test_browser import browser as browser
from tests.protocol.people import OWNER

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    (tmp_path / "launcher").mkdir()
    with launching(tmp_path / "launcher") as made:
        made.command = real(made)
        yield made


def rehearse(portal: Portal, way: dict[str, str], runtime: Runtime) -> None:
    """An owner's choice of the model; the gateway starts anew with it."""
    session, path = device_session(portal, way), "/v1/gateway/model"
    body = json.dumps({"model": "rehearsal"}).encode()
    proof = prove(OWNER.seed, session, Request.of("PUT", path, body), 1)
    headers = cookies(way) | {"Portal-Session": session, "Portal-Proof": proof}
    assert portal.ask(ACME, "PUT", path, headers=headers, content=body).status_code == 200
    wait_for(lambda: RuntimeClient.dial(runtime).status()["gateway"]["state"] == "ready", 120)


def test_a_conversation(
    portal: Portal, way: dict[str, str], runtime: Runtime, visitor: BrowserContext
) -> None:
    """It loads within the agent's rate, opens its socket, and a tool of its agent answers.

    The fence stops one thing that it tries: a worker, which would outlive the page.
    """
    rehearse(portal, way, runtime)
    page = visitor.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda r: said.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.goto("/gateway/")
    box = page.get_by_placeholder("Message Assistant")
    expect(box).to_be_visible(timeout=30_000)
    box.fill("run: echo $((6 * 7)) is it")
    page.keyboard.press("Enter")
    expect(page.get_by_text("42 is it").last).to_be_visible(timeout=30_000)
    assert [line for line in said if "worker-src" not in line] == []
    assert len(said) == 1
    assert 20 < len(asked) < RATE_BURST
    assert all(url.startswith(f"{portal.origin('acme')}/gateway/") for url in asked)
