"""The portal's record on the guest's own page: what the machine has witnessed, and what contradicted it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from audit import log
from protocol.checkpoints import opened
from protocol.witnessing import Request
from provisioning.models import GuestImage, Host, Runtime
from provisioning.runtime_client import RuntimeClient
from tenants.models import Tenant
from tests.e2e.test_boundary import BOOT_SECONDS, person  # noqa: F401 - a fixture
from tests.e2e.test_jobs_page import enter
from tests.portal.test_browser import browser, complaints, shoot  # noqa: F401 - fixtures
from tests.portal.test_record_proofs import forge
from tests.provisioning.witness_flows import ask, head, write
from tests.provisioning.workers import created

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


def saved(page: Page, button: str) -> str:
    """What the page gives as a file."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return Path(waiting.value.path()).read_text()


def show_another_history(runtime: Runtime, held: int) -> None:
    """As whoever holds the log's key and rewrites it."""
    forged = Request(held, (), forge(held, b"\1" * 32))
    answer = RuntimeClient.dial(runtime).offer_checkpoint(forged.to_text())
    assert answer["reason"] == "forked", answer


def test_the_record_on_the_machines_page(
    person: Page,  # noqa: F811
    shoot: Callable[[Page, str], None],  # noqa: F811
    simulated_host: Host,
    tenant: Tenant,
    owner: User,
    image: GuestImage,
) -> None:
    """Nothing yet; the newest checkpoint, to keep; a fork in red with the evidence, until its owner has seen it."""
    page, runtime = person, created(tenant, BOOT_SECONDS)
    enter(page, runtime)
    card = page.locator("#record")
    write()
    ask(runtime)
    page.reload()
    held = head().size
    expect(card.locator("#checkpoint")).to_contain_text(f"{held} entries, signed")
    expect(page.get_by_text("No checkpoint has come yet.")).to_be_hidden()
    expect(page.locator("#contradicted")).to_be_hidden()
    expect(page.locator("#other-log")).to_be_hidden()
    kept = opened(saved(page, "Save the checkpoint"), log.vkey())
    assert (kept.size, kept.root) == (held, bytes(head().root))
    shoot(page, "machine-record")

    show_another_history(runtime, held)
    page.reload()
    expect(card).to_contain_class("alarm")
    expect(card).to_contain_text(f"when this machine held {held} entries")
    expect(card).to_contain_text("it showed other entries in the same number")
    evidence = json.loads(saved(page, "Save the evidence"))
    assert evidence["log"] == str(log.vkey())
    assert opened(evidence["held"], log.vkey()) == kept
    (shown,) = evidence["shown"]
    assert opened(shown["note"], log.vkey()).root == b"\1" * 32
    shoot(page, "machine-record-alarm")
    page.get_by_role("button", name="I have seen this").click()
    expect(card).not_to_contain_class("alarm")
    expect(card).to_contain_text("it showed other entries in the same number")
    expect(page.get_by_role("button", name="I have seen this")).to_be_hidden()
