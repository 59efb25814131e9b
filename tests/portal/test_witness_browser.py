"""Witnesses and the red alarm in a real browser: who signed, who refused, who was shown another history."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from audit import disputes, witnesses
from audit.alerts import loud
from audit.models import Checkpoint, Witness
from tests.portal.conftest import TESTER, World
from tests.portal.test_browser import base, browser, complaints, page, shoot, sign_in  # noqa: F401 - fixtures
from tests.portal.test_record import write
from tests.portal.test_record_proofs import forge, make_witness, witness_newest

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
FOUND = "The backup of Monday was restored, as agreed with the tenants."


def furnish(world: World, sequence: Callable[[], int]) -> Witness:
    """Four rounds; the own guest signs all, the one outside is behind and away, the other never signed."""
    for whose in ("own", "outside"):
        make_witness(world, whose)
    for number in range(4):
        write(world.mine, kind="restart")
        sequence()
        witness_newest(world, "own")
        if number < 2:
            witness_newest(world, "outside")
    outside = Witness.objects.get(target="")
    witnesses.not_reached(outside, "no answer within 10 s")
    return outside


def test_staff_look_into_what_is_loud(
    world: World,
    page: Page,  # noqa: F811
    shoot: Callable[[Page, str], None],  # noqa: F811
    sequence: Callable[[], int],
) -> None:
    """Nothing is red; then a refusal and a dispute are, on each page, until both are acknowledged with a reason."""
    outside = furnish(world, sequence)
    sign_in(page, "operator")
    page.goto("/admin/")
    page.get_by_role("link", name="Witnesses", exact=True).first.click()
    expect(page.get_by_text("no answer within 10 s")).to_be_visible()
    expect(page.locator(".record-alarm")).to_have_count(0)
    newest = Checkpoint.objects.order_by("-size")[0]
    witnesses.refused(outside, newest, "proof", newest.size - 3)
    disputes.dispute(
        actor=TESTER, tenant_id=world.mine.tenant.pk, kept=forge(newest.size, b"\1" * 32), here=newest.size
    )
    page.reload()
    alarm = page.get_by_role("alert")
    expect(alarm).to_contain_text("A witness refuses to sign the audit record")
    expect(alarm).to_contain_text(f"another history of {newest.size} entries")
    shoot(page, "witnesses")
    page.get_by_role("link", name=outside.name).click()
    expect(page.get_by_role("heading", name="Newest signatures")).to_be_visible()
    shoot(page, "witness")

    look_into(page, 0, "Witness refusals")
    shoot(page, "witness-refusal")
    finish(page)
    expect(page.get_by_role("alert")).not_to_contain_text("A witness refuses")
    look_into(page, 0, "Disputes")
    finish(page)
    expect(page.locator(".record-alarm")).to_have_count(0)
    assert loud() == []
    page.get_by_role("link", name="acknowledged").click()
    expect(page.get_by_text(FOUND)).to_be_visible()
    page.locator("#result_list tbody tr a").first.click()
    expect(page.get_by_text("portal.localhost/log").first).to_be_visible()
    shoot(page, "dispute")


def look_into(page: Page, which: int, where: str) -> None:  # noqa: F811
    """From the banner to the list, to the page that asks why."""
    page.get_by_role("link", name="Look into it").nth(which).click()
    expect(page.locator(".breadcrumbs")).to_contain_text(where)
    page.locator("#result_list input.action-select").first.check()
    page.locator("select[name=action]").select_option("acknowledge")
    page.get_by_role("button", name="Go", exact=True).click()
    expect(page.get_by_role("heading", name="why?")).to_be_visible()


def finish(page: Page) -> None:  # noqa: F811
    page.get_by_label("Reason").fill(FOUND)
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text(": acknowledged")).to_be_visible()
