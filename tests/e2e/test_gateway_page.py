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
