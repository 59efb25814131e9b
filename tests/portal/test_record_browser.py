"""The record in a real browser: from the tenant's page to an entry, its receipt, and a kept checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from audit import log
from audit.context import Actor
from audit.models import Checkpoint, Dispute, Entry
from portal.record.reading import PAGE
from protocol.receipts import Receipt, check
from tests.portal.conftest import World
from tests.portal.test_browser import base, browser, complaints, page, shoot, sign_in  # noqa: F401 - fixtures
from tests.portal.test_record import write
from tests.portal.test_record_proofs import forge, make_witness, witness_newest

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def furnish(world: World) -> None:
    """A past with requests among it, and witnesses."""
    for whose in ("own", "outside"):
        make_witness(world, whose)
    write(
        world.mine,
        actor=Actor.of(world.people["operator"]),
        kind="resize_restart",
        reason="The plan was changed.",
    )
    for number in range(PAGE):
        write(
            world.mine,
            "secret.put",
            Actor.of(world.people["owner"]),
            name=f"A_RATHER_LONG_NAME_{number}",
            version=number,
        )
        write(world.mine, "request.routed", Actor.of(world.people["member"]), method="GET", path="/v1/jobs")


def test_a_member_looks_pages_and_keeps_a_receipt(
    world: World,
    page: Page,  # noqa: F811
    shoot: Callable[[Page, str], None],  # noqa: F811
    sequence: Callable[[], int],
) -> None:
    """The list, older ones, one topic; an entry, its proof and its receipt; what is new waits a moment."""
    furnish(world)
    sequence()
    for whose in ("own", "outside"):
        witness_newest(world, whose)
    write(world.mine, actor=Actor.of(world.people["member"]), kind="restart")
    sign_in(page, "member")
    page.get_by_role("link", name="Record", exact=True).click()
    expect(page.get_by_role("heading", name="Record")).to_be_visible()
    expect(page.locator("table.record tbody tr")).to_have_count(PAGE)
    expect(page.get_by_text("soon", exact=True)).to_have_count(1)
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_role("link", name="Newest")).to_be_visible()
    page.get_by_label("About").select_option("machine")
    page.get_by_role("button", name="Show").click()
    shoot(page, "record")
    page.get_by_role("link", name="Asked to restart the machine").click()
    expect(page.get_by_text("Soon", exact=True)).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Asked to apply the plan, with a restart").click()
    expect(page.get_by_text("Witnessed by your machine")).to_be_visible()
    expect(page.locator("main")).to_contain_text("Staff")
    page.get_by_text("Verify it without us").click()
    page.get_by_text("The entry in full").click()
    shoot(page, "record-entry")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download the receipt").click()
    found = check(Receipt.parse(Path(waiting.value.path()).read_bytes()), log.vkey())
    assert found.event["data"]["kind"] == "resize_restart"
    assert waiting.value.suggested_filename == f"acme-{found.index}.receipt.json"


def test_a_member_downloads_all(world: World, page: Page, sequence: Callable[[], int]) -> None:  # noqa: F811
    """With proofs; and that they did stands in the record."""
    furnish(world)
    sequence()
    sign_in(page, "member")
    page.goto("/t/acme/record/?topic=")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    lines = Path(waiting.value.path()).read_bytes().splitlines()
    assert len({check(Receipt.parse(line), log.vkey()).index for line in lines}) == len(lines) > 2 * PAGE
    page.reload()
    expect(page.get_by_role("link", name="Downloaded entries with their proofs")).to_be_visible()
    assert Entry.objects.filter(action="record.exported").count() == 1


def test_a_kept_checkpoint_is_continued_or_disputed(
    world: World,
    page: Page,  # noqa: F811
    shoot: Callable[[Page, str], None],  # noqa: F811
    sequence: Callable[[], int],
) -> None:
    """Paste it: proved, with the files to check that; or the loudest words that the page has."""
    furnish(world)
    sequence()
    witness_newest(world, "own")
    sign_in(page, "member")
    page.goto("/t/acme/record/")
    page.get_by_role("link", name="Log and witnesses").click()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Keep it").click()
    kept = Path(waiting.value.path()).read_text()
    write(world.mine, kind="stop")
    sequence()
    witness_newest(world, "own")
    page.get_by_label("Your checkpoint").fill(kept)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("Proved", exact=True)).to_be_visible()
    shoot(page, "record-checkpoint")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Proof", exact=True).click()
    assert Path(waiting.value.path()).read_text().strip()
    page.get_by_label("Your checkpoint").fill(forge(Checkpoint.objects.order_by("-size")[0].size, b"\1" * 32))
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("alert")).to_contain_text("DOES NOT CONTINUE")
    assert Dispute.objects.filter(acknowledgement=None).count() == 1
