"""Connectors in a real browser: the switch, what it says, and the page at both sizes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from portal import connectors
from provisioning.models import Runtime
from tenants.models import Tenant
from tenants.selectors import allowed_hosts
from tenants.services import connector_forbid
from tests.portal.conftest import TESTER, World
from tests.portal.test_browser import (  # noqa: F401 - fixtures
    base,
    browser,
    complaints,
    mark,
    marked,
    page,
    shoot,
    sign_in,
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


class Proxy:
    """What stands in for the proxy's word: since when it keeps to the rows."""

    since: datetime | None = None


@pytest.fixture
def proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    Runtime.objects.update(egress=True)
    found = Proxy()

    def since(tenant: Tenant) -> datetime | None:
        return found.since

    monkeypatch.setattr(connectors, "in_force_since", since)
    return found


def test_an_owner_turns_it_off_and_on(world: World, page: Page, proxy: Proxy) -> None:  # noqa: F811
    """From the tenant's page; the word on the proxy comes without a reload."""
    proxy.since = timezone.now() - timedelta(hours=1)
    sign_in(page, "owner-of-acme")
    page.get_by_role("link", name="Connectors").click()
    expect(page.get_by_text("In force since")).to_be_visible()
    proxy.since = None
    page.get_by_role("button", name="Turn off GitHub").click()
    expect(page.get_by_role("status")).to_contain_text("GitHub is off.")
    expect(page.get_by_text("Not in force yet")).to_be_visible()
    assert allowed_hosts(world.mine.tenant.pk) == []
    mark(page)
    proxy.since = timezone.now()
    expect(page.get_by_text("In force since")).to_be_visible()
    assert marked(page)
    page.get_by_role("button", name="Turn on GitHub").click()
    expect(page.get_by_role("status")).to_contain_text("GitHub is on.")
    expect(page.get_by_role("heading", name="GitHub")).to_contain_text("On")
    assert allowed_hosts(world.mine.tenant.pk) != []


def test_what_staff_forbid_is_seen_without_a_reload(
    world: World,
    page: Page,  # noqa: F811
    proxy: Proxy,
) -> None:
    """The switch goes; the owner learns whom to ask."""
    sign_in(page, "owner-of-acme")
    page.goto("/t/acme/connectors/")
    mark(page)
    connector_forbid(actor=TESTER, tenant=world.mine.tenant, connector="github")
    expect(page.get_by_text("Forbidden by staff")).to_be_visible()
    expect(page.get_by_role("button", name="Turn off GitHub")).to_have_count(0)
    expect(page.get_by_text("Ask an operator if you need it.")).to_be_visible()
    assert marked(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_at_both_sizes(
    world: World,
    page: Page,  # noqa: F811
    proxy: Proxy,
    shoot: Callable[[Page, str], None],  # noqa: F811
    scheme: Any,
) -> None:
    """On, off and forbidden; as an owner, a member and an operator see it."""
    proxy.since = timezone.now() - timedelta(hours=1)
    page.emulate_media(color_scheme=scheme)
    suffix = "" if scheme == "light" else "-dark"
    sign_in(page, "owner-of-acme")
    page.goto("/t/acme/connectors/")
    shoot(page, f"connectors{suffix}")
    for name, buttons in (("member", 0), ("operator", 1)):
        page.context.clear_cookies()
        sign_in(page, name)
        page.goto("/t/acme/connectors/")
        expect(page.locator("#connectors").get_by_role("button")).to_have_count(buttons)
        if scheme == "light":
            shoot(page, f"connectors-{name}")
    proxy.since = None
    page.get_by_role("button", name="Forbid GitHub").click()
    expect(page.get_by_role("heading", name="GitHub")).to_contain_text("Not allowed")
    shoot(page, f"connectors-forbidden{suffix}")
