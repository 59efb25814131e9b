"""Outside connections in a real browser: pages of the record, and the page at both sizes."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from portal.outside import PAGE
from provisioning.models import EgressRecord, Runtime
from tests.portal.conftest import World
from tests.portal.test_browser import base, browser, complaints, page, shoot, sign_in  # noqa: F401 - fixtures
from tests.portal.test_outside import add, serve

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_member_looks_and_pages_through(
    world: World,
    page: Page,  # noqa: F811
    shoot: Callable[[Page, str], None],  # noqa: F811
) -> None:
    """From the tenant's page to the record, to what was refused, to older and back."""
    serve(world.mine)
    now = timezone.now()
    for number in range(PAGE + 5):
        add(
            world.mine,
            host=f"a-rather-long-name-{number}.of-some-service.example.com",
            at=now - timedelta(minutes=number),
            bytes_up=10**number % 10**9,
            bytes_down=7 * 10**6,
        )
    add(world.mine, host="", port=0, verdict="refused", reason="invalid", attempts=12)
    add(world.mine, host="evil.example", port=8443, verdict="refused", reason="sni")
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(
        direct_packets=1234, direct_bytes=99_999, direct_at=now
    )
    sign_in(page, "member")
    page.get_by_role("link", name="Outside connections").click()
    expect(page.get_by_role("heading", name="Outside connections")).to_be_visible()
    expect(page.get_by_text("In force since")).to_be_visible()
    expect(page.get_by_text("1234 packets")).to_be_visible()
    shoot(page, "outside")
    page.get_by_role("link", name="Refused").click()
    expect(page.locator("table.outside tbody tr")).to_have_count(3)
    page.get_by_role("link", name="All", exact=True).click()
    page.get_by_role("link", name="Older").click()
    expect(page.locator("table.outside tbody tr")).to_have_count(
        EgressRecord.objects.filter(tenant=world.mine.tenant).count() - PAGE
    )
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("table.outside tbody tr")).to_have_count(PAGE)
