"""Break-glass as people use it: one browser each, from the request to the review, with the guest's page in between.

Through the portal, nginx, the urgent worker and a guest; on a real one, and on an agent as a local process.
"""

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect

from breakglass import receipts
from breakglass.models import Receipt, Ticket
from provisioning.models import GuestImage, Host
from tenants.models import Tenant
from tests.breakglass.access import REASON, Staffed, staffed
from tests.breakglass.staff import Colleague
from tests.e2e.conftest import Portal
from tests.e2e.test_boundary import AUTHENTICATOR
from tests.e2e.test_break_glass import BOOT_SECONDS, PLAN, furnish
from tests.e2e.test_break_glass import worker as worker
from tests.portal.test_browser import SIZES, sign_in
from tests.portal.test_browser import browser as browser
from tests.provisioning.workers import created

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
FOUND = "The plan names a host that is gone. I have read nothing else."
GUEST_MS, PORTAL_MS = 60_000, 30_000
Desk = Callable[[Colleague], Page]


@pytest.fixture
def desk(portal: Portal, browser: Browser) -> Iterator[Desk]:
    """A browser of a colleague's own, whose authenticator holds their passkey."""
    with ExitStack() as opened:

        def sit(colleague: Colleague) -> Page:
            context = browser.new_context(base_url=portal.base, viewport=SIZES["desktop"])  # type: ignore[arg-type]
            opened.callback(context.close)
            context.set_default_timeout(PORTAL_MS)
            page = context.new_page()
            session = context.new_cdp_session(page)
            session.send("WebAuthn.enable")
            made = session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
            session.send(
                "WebAuthn.addCredential",
                {"authenticatorId": made["authenticatorId"], "credential": _credential(colleague)},
            )
            sign_in(page, colleague.user.username)
            return page

        yield sit


def _credential(colleague: Colleague) -> dict[str, object]:
    """As :meth:`Colleague.register` has told the portal."""
    device = colleague.authenticator
    private = device.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {
        "credentialId": base64.b64encode(device.key.public_key[-32:]).decode(),
        "isResidentCredential": True,
        "rpId": "portal.localhost",
        "privateKey": base64.b64encode(private).decode(),
        "userHandle": base64.b64encode(colleague.user.username.encode()).decode(),
        "signCount": 1,
    }


def walk(desk: Desk, people: Staffed, host: Host) -> None:
    """Ask, approve, begin, look at one file in the machine, be done, review."""
    furnish(created(people.tenant, BOOT_SECONDS), host)
    greta, anna = desk(people.greta), desk(people.anna)
    ticket = ask(greta)
    anna.goto(f"/break-glass/{ticket.pk}/")
    expect(anna.get_by_text(REASON).first).to_be_visible()
    anna.get_by_role("button", name="Approve with passkey").click()
    expect(anna.get_by_text("You have approved it.")).to_be_visible(timeout=PORTAL_MS)

    greta.get_by_role("button", name="Begin").click()
    greta.get_by_role("button", name="Open the machine").click(timeout=GUEST_MS)
    look(greta)
    finish(greta, ticket)
    receipts.fetch(ticket.runtime_id)
    texts = [row.text for row in Receipt.objects.filter(ticket_id=ticket.pk, event="access")]
    assert any('"path":"reports/plan.txt"' in text for text in texts)


def ask(page: Page) -> Ticket:
    """The form, and the requester's passkey."""
    page.goto("/break-glass/new/?tenant=acme")
    page.get_by_label("Why do you need it?").fill(REASON)
    page.get_by_label("Read files").check()
    page.get_by_role("textbox", name="Paths").fill("reports")
    page.get_by_role("button", name="Sign and ask").click()
    expect(page.get_by_text("1 more approval needed.")).to_be_visible(timeout=PORTAL_MS)
    return Ticket.objects.get()


def look(page: Page) -> None:
    """On the machine's own origin: the passkey once more, then the file that the ticket covers."""
    page.get_by_role("button", name="Confirm with your passkey").click(timeout=GUEST_MS)
    expect(page.get_by_role("heading", name="Break-glass access of greta")).to_be_visible(timeout=GUEST_MS)
    page.get_by_role("button", name="reports").first.click(timeout=GUEST_MS)
    page.get_by_role("button", name="plan.txt").click(timeout=GUEST_MS)
    expect(page.locator("#viewer-text")).to_contain_text(PLAN.decode().splitlines()[0], timeout=GUEST_MS)


def finish(page: Page, ticket: Ticket) -> None:
    """Done at the portal: the machine confirms, and what is left is the review."""
    other = page.context.new_page()
    other.goto(f"/break-glass/{ticket.pk}/")
    other.get_by_role("button", name="I'm done").click()
    expect(other.get_by_text("The machine says that it is over")).to_be_visible(timeout=GUEST_MS)
    other.get_by_label("What did you find").fill(FOUND)
    other.get_by_role("button", name="Close the review").click()
    expect(other.get_by_text("Thank you. The review is closed.")).to_be_visible(timeout=PORTAL_MS)
    assert Ticket.objects.get(pk=ticket.pk).review.text == FOUND
    # The page in the machine is a page without access by now.
    status = page.evaluate("fetch('/v1/break-glass').then((answer) => answer.status)")
    assert status in {401, 403}


def test_from_request_to_review_simulated(
    worker: None,
    desk: Desk,
    simulated_host: Host,
    tenant: Tenant,
    owner: User,
    image: GuestImage,
    make_user: Callable[..., User],
) -> None:
    """With the agent as a local process."""
    walk(desk, staffed(tenant, owner, make_user), simulated_host)


@pytest.mark.guest
def test_from_request_to_review(
    worker: None,
    desk: Desk,
    real_host: Host,
    real_image: GuestImage,
    tenant: Tenant,
    owner: User,
    make_user: Callable[..., User],
) -> None:
    """On a real guest."""
    walk(desk, staffed(tenant, owner, make_user), real_host)
