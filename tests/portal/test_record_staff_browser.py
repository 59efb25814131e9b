"""The record in a real browser: search, follow live and pause, one entry with its proofs, at both sizes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import transaction
from playwright.sync_api import Page, expect

from audit import log
from audit.context import Actor, bind
from audit.models import Entry
from audit.services import record
from protocol.receipts import Receipt, check
from tests.portal.conftest import World
from tests.portal.test_browser import base, browser, complaints, page, shoot, sign_in  # noqa: F401 - fixtures

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def write(world: World, number: int, action: str = "operation.requested") -> Entry:
    with transaction.atomic(), bind(request_id=f"{number:032x}", address="192.0.2.7"):
        return record(
            action=action,
            actor=Actor.of(world.people["owner"]),
            tenant_id=world.mine.tenant.pk,
            target=("runtime", world.mine.runtime.pk),
            data={"kind": "restart", "note": "the limit was reached", "number": number},
        )


def test_staff_search_follow_and_prove(
    world: World,
    page: Page,  # noqa: F811
    shoot: Callable[[Page, str], None],  # noqa: F811
    sequence: Callable[[], int],
    tmp_path: Path,
) -> None:
    """From the search to a page of older ones, to the live tail and its pause, to a receipt that verifies."""
    for number in range(60):
        write(world, number)
    sequence()
    write(world, 99, "operation.cancel_requested")
    sequence()
    sign_in(page, "operator")
    page.goto("/admin/audit/entry/")
    page.get_by_label("Words").fill("limit")
    page.get_by_label("Tenant").fill("acme")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Older").first.click()
    expect(page.locator("#result_list tbody tr")).to_have_count(11)
    shoot(page, "record-staff")
    page.get_by_role("link", name="Newest").first.click()
    page.get_by_role("link", name="Follow live").click()
    expect(page.get_by_text("New entries appear here")).to_be_visible()
    write(world, 100, "operation.superseded")
    sequence()
    expect(page.locator("#result_list").get_by_text("operation.superseded")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    write(world, 101, "operation.failed")
    sequence()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#result_list").get_by_text("operation.failed")).to_be_visible()
    expect(page.locator("#result_list").get_by_text("operation.superseded")).to_have_count(1)
    page.locator("#result_list").get_by_text("operation.superseded").locator("xpath=ancestor::tr").locator(
        ".when a"
    ).click()
    expect(page.get_by_role("heading", name="Place in the log")).to_be_visible()
    page.get_by_label("Older checkpoint").fill(str(Entry.objects.count() - 3))
    page.get_by_role("button", name="Show the proof").click()
    expect(page.get_by_text("begins with that of")).to_be_visible()
    shoot(page, "record-staff-entry")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the receipt").click()
    download.value.save_as(tmp_path / "receipt.json")
    checked = check(Receipt.parse((tmp_path / "receipt.json").read_bytes()), log.vkey())
    assert checked.event["action"] == "operation.superseded"


def test_a_search_that_is_wrong_keeps_what_was_typed(world: World, page: Page, complaints: list[str]) -> None:  # noqa: F811
    """The field is marked, and nothing is lost."""
    sign_in(page, "operator")
    page.goto("/admin/audit/entry/?q=kept&since=yesterday")
    expect(page.get_by_text("Enter a valid date/time.")).to_be_visible()
    expect(page.get_by_label("Words")).to_have_value("kept")
    complaints.clear()  # the 400 of this page is meant
