"""The gateway's page in a real browser: a hostile one is fenced in, and the real one works inside the fence."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

from provisioning.models import Runtime
from tests.e2e.conftest import Portal
from tests.e2e.test_gateway_proxy import launcher as launcher
from tests.e2e.test_gateway_proxy import runtime as runtime
from tests.e2e.test_proxy import passkey_session
from tests.e2e.test_proxy import way as way
from tests.gateway.fake_launcher import Launcher
from tests.portal.test_browser import browser as browser
from tests.portal.test_browser import shoot as shoot

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def visitor(portal: Portal, way: dict[str, str], runtime: Runtime, browser: Any) -> Iterator[BrowserContext]:
    """A browser that has opened the machine and signed in there."""
    context = browser.new_context(base_url=portal.origin("acme"), viewport={"width": 1280, "height": 900})
    both = way | {"__Host-guest": passkey_session(portal, way)}
    context.add_cookies(
        [{"name": name, "value": value, "url": "https://acme.portal.localhost", "secure": True, "httpOnly": True, "sameSite": "Strict"}
         for name, value in both.items()]
    )  # fmt: skip
    yield context
    context.close()


def test_what_a_hostile_page_reaches(visitor: BrowserContext) -> None:
    """Its own part of the origin, and nothing beside: neither by asking, nor by another window, frame or worker."""
    page = visitor.new_page()
    page.goto("/")
    page.goto("/gateway/attack")
    expect(page).to_have_title(re.compile(r"\{.*"), timeout=30_000)
    found = json.loads(page.title())
    assert (found.pop("own"), found.pop("socket")) == ("200", "message"), (
        "so that the refusals mean something"
    )
    assert found.pop("redirect") == "302", "it led nowhere"
    assert {name: came for name, came in found.items() if not str(came).startswith("no: ")} == {}


def test_the_machines_page(visitor: BrowserContext, launcher: Launcher) -> None:
    """State, stop and start, an owner's choice of the model, and the way to the gateway's page."""
    page = visitor.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda failure: complaints.append(str(failure)))
    page.goto("/")
    state = page.locator("#gateway-state")
    expect(state).to_have_text("Ready")
    expect(page.get_by_text("No model is chosen: it cannot answer yet.")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(state).to_have_text("Off")
    expect(page.get_by_text("A member stopped it.")).to_be_visible()
    expect(page.get_by_role("link", name="Open the gateway")).to_be_hidden()
    page.get_by_role("button", name="Choose the model").click()
    page.get_by_label("Model", exact=True).select_option("own")
    page.get_by_label("Base URL").fill("https://models.example/v1")
    page.get_by_label("Model's name").fill("large")
    page.get_by_label("Secret that holds the key").fill("no such name!")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("the secret's name has letters, digits and _.- only")).to_be_visible()
    page.get_by_label("Secret that holds the key").fill("MODEL_KEY")
    page.get_by_role("button", name="Save").click()
    expect(
        page.get_by_text("It asks large at https://models.example/v1, with the secret MODEL_KEY.")
    ).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(
        page.get_by_text("the secret MODEL_KEY is not here; add it, or choose another model")
    ).to_be_visible()
    page.get_by_role("button", name="Choose the model").click()
    page.get_by_label("Model", exact=True).select_option("rehearsal")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("It asks the rehearsal model")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(state).to_have_text("Ready", timeout=20_000)
    page.get_by_role("link", name="Open the gateway").click()
    page.wait_for_url("**/gateway/")
    assert [line for line in complaints if "status of 4" not in line] == []
    assert launcher.starts == 2
