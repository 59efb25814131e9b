"""The pages of quotas in a real browser: no complaint, nothing cut off, on a screen and on a phone."""

from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from portal.rates import API, ROUTED, spend
from provisioning.models import Host, Runtime
from provisioning.quotas import size_of
from tenants.models import Plan
from tests.portal.conftest import World
from tests.portal.test_browser import (  # noqa: F401 - fixtures
    SIZES,
    base,
    browser,
    complaints,
    page,
    sign_in,
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def busy(world: World) -> World:
    """A machine in use whose plan has changed since."""
    Runtime.objects.update(
        usage={"memory_mib": 471, "disk_mib": 620, "jobs_running": 1, "jobs_waiting": 0},
        usage_at=timezone.now(),
        bandwidth_mbit=50,
    )
    Plan.objects.update(memory_mib=1024, cpu_percent=80, bandwidth_mbit=50)
    large = {**size_of(world.mine.tenant.plan), "memory_mib": 9000, "disk_gib": 20}
    Plan.objects.create(slug="large", name="Large", cost_floor_cents=19900, **large)
    for rate, times in ((API, 9), (ROUTED, 240)):
        for _ in range(times):
            spend(rate, world.mine.tenant.pk, 1200)
    return world


def pictured(page: Page, folder: Path, name: str) -> None:  # noqa: F811
    for size, box in SIZES.items():
        page.set_viewport_size(box)  # type: ignore[arg-type]
        page.screenshot(path=folder / f"{name}-{size}.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide on a {size}"


def test_the_tenants_page(page: Page, busy: World, tmp_path: Path) -> None:  # noqa: F811
    """What is there, what is used, what is to come; it keeps itself up to date."""
    sign_in(page, busy.people["owner"].username)
    page.wait_for_url("**/t/acme/")
    page.goto("/t/acme/")
    page.get_by_role("link", name="Quotas").click()
    expect(page.get_by_text("Memory: 512 → 1024")).to_be_visible()
    expect(page.get_by_text("that restarts the machine")).to_be_visible()
    expect(page.get_by_text("471")).to_be_visible()
    pictured(page, tmp_path, "quotas")
    Runtime.objects.update(usage={"memory_mib": 333}, usage_at=timezone.now())
    expect(page.get_by_text("333")).to_be_visible(timeout=15_000)


def test_the_staffs_pages(page: Page, busy: World, tmp_path: Path) -> None:  # noqa: F811
    """A plan for a machine, and what a host has promised."""
    sign_in(page, "operator")
    page.wait_for_url("**/")
    page.goto(f"/admin/provisioning/runtime/{busy.mine.runtime.pk}/change/")
    page.get_by_role("link", name="Change the plan").click()
    expect(page.get_by_text("Not possible: shelf needs 8488 MiB")).to_be_visible()
    pictured(page, tmp_path, "plan")
    page.get_by_role("button", name="Change the plan").click()
    expect(page.get_by_text("needs a restart")).to_be_visible()
    pictured(page, tmp_path, "plan-refused")
    page.goto(f"/admin/provisioning/host/{Host.objects.get().pk}/change/")
    expect(page.get_by_role("row", name="Memory (MiB) 1024 8192")).to_be_visible()
    pictured(page, tmp_path, "host")
    page.goto("/admin/provisioning/host/")
    pictured(page, tmp_path, "hosts")
