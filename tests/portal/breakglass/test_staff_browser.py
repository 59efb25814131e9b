"""From request to review in a real browser: a requester and an approver, each with an authenticator of their own.

The machine is a row here: what a guest answers is written into the ticket as the delivery would. The same way
on a real guest: tests/e2e/test_break_glass.py.
"""

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from audit.context import Actor
from breakglass import services
from breakglass.models import Ticket
from tests.portal import tickets
from tests.portal.conftest import World
from tests.portal.test_browser import (  # noqa: F401 - fixtures
    SIZES,
    base,
    browser,
    complaints,
    mark,
    marked,
    shoot,
    sign_in,
)
from tests.portal.tickets import WHY

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
Shoot = Callable[[Page, str], None]
OPTIONS = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
def desk(browser: Browser, base: str, complaints: list[str], settings: Any) -> Iterator[Callable[..., Page]]:  # noqa: F811
    """A browser of its own for a person of the world, whose authenticator holds the person's passkey."""
    settings.BASE_URL = base
    with ExitStack() as opened:

        def sit(user: User) -> Page:
            context = browser.new_context(base_url=base, viewport=SIZES["desktop"], color_scheme="light")  # type: ignore[arg-type]
            opened.callback(context.close)
            context.set_default_timeout(15_000)
            page = context.new_page()
            bad = {"error", "warning"}
            page.on(
                "console", lambda m: complaints.append(f"{m.text} {m.location}") if m.type in bad else None
            )
            page.on("pageerror", lambda error: complaints.append(str(error)))
            _hold_passkey(page, user)
            sign_in(page, user.username)
            return page

        yield sit


def _hold_passkey(page: Page, user: User) -> None:
    row, device = tickets.passkey(user), tickets.authenticator(user)
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": OPTIONS})
    private = device.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    padded = row.credential_id + "=" * (-len(row.credential_id) % 4)
    credential = {
        "credentialId": base64.b64encode(base64.urlsafe_b64decode(padded)).decode(),
        "isResidentCredential": True,
        "rpId": "portal.localhost",
        "privateKey": base64.b64encode(private).decode(),
        "userHandle": base64.b64encode(str(user.pk).encode()).decode(),
        "signCount": 1,
    }
    session.send(
        "WebAuthn.addCredential",
        {"authenticatorId": made["authenticatorId"], "credential": credential},
    )


def delivered(ticket: Ticket) -> None:
    """The guest has taken the grant."""
    Ticket.objects.filter(pk=ticket.pk).update(delivered_at=timezone.now(), guest_until=F("access_until"))


def expected(complaints: list[str], status: int) -> None:  # noqa: F811
    """What the browser says of refusals that the test has asked for, and nothing else."""
    words = f"Failed to load resource: the server responded with a status of {status}"
    assert {line.split(" (")[0] for line in complaints} == {words}
    complaints.clear()


def test_from_request_to_review(
    world: World,
    desk: Callable[..., Page],
    shoot: Shoot,  # noqa: F811
    complaints: list[str],  # noqa: F811
) -> None:
    """Asked, changed, approved by two people, begun, ended early, reviewed; each page says what is next."""
    requester, ann = desk(world.people["requester"]), desk(world.people["approver"])
    ticket = _ask(requester, shoot)
    ann.goto("/break-glass/")
    shoot(ann, "break-glass-inbox")
    ann.get_by_role("link", name="Acme").last.click()
    expect(ann.get_by_text("Read what is asked, then decide below.")).to_be_visible()
    expect(ann.get_by_role("columnheader", name="Asked (UTC)")).to_be_visible()  # a phone has no headings
    shoot(ann, "break-glass-decide")

    # The requester wants more than before; what the approver had on screen can be signed no more.
    requester.get_by_role("link", name="Change").click()
    requester.get_by_label("Change files").check()
    expect(requester.get_by_text("Needs 2 approvals.")).to_be_visible()
    requester.get_by_role("button", name="Sign and change").click()
    expect(requester.get_by_text("2 more approvals needed. Can approve: ann, ben.")).to_be_visible()
    expect(ann.get_by_text("this is revision 2")).to_be_visible()

    mark(requester)
    _press(ann, "Approve with passkey", "You have approved it.")
    expect(ann.get_by_role("button", name="Approve with passkey")).to_have_count(0)
    expect(requester.get_by_text("✓ ann approved")).to_be_visible()
    expect(requester.get_by_text("1 more approval needed. Can approve: ben.")).to_be_visible()
    assert marked(requester), "news come without a reload"
    ben = desk(User.objects.get(username="ben"))
    ben.goto(ann.url)
    _press(ben, "Approve with passkey", "You have approved it.")

    requester.get_by_role("button", name="Begin").click()
    expect(requester.get_by_text("The machine is being told.")).to_be_visible()
    delivered(ticket)
    expect(requester.get_by_text("The machine let it in")).to_be_visible()
    expect(requester.get_by_text("left")).to_have_text(re.compile(r"^(30:00|29:\d\d) left$"))
    shoot(requester, "break-glass-active")
    ann.goto("/break-glass/")
    expect(ann.get_by_role("heading", name="Open now")).to_be_visible()
    shoot(ann, "break-glass-open-now")

    requester.get_by_role("button", name="I'm done").click()
    expect(requester.get_by_text("The machine has not confirmed yet")).to_be_visible()
    Ticket.objects.filter(pk=ticket.pk).update(end_confirmed_at=timezone.now())
    expect(requester.get_by_text("The machine says that it is over")).to_be_visible()
    shoot(requester, "break-glass-review")
    _review(requester)
    shoot(requester, "break-glass-over")
    assert Ticket.objects.get(pk=ticket.pk).review.text == FOUND
    expected(complaints, 409)  # the review that was too short


FOUND = "The certificate had run out. I renewed it and read nothing else."


def _ask(page: Page, shoot: Shoot) -> Ticket:  # noqa: F811
    page.goto("/break-glass/")
    page.get_by_role("link", name="Ask for access").click()
    page.get_by_label("Why do you need it?").fill(WHY)
    page.get_by_label("Link to the incident").fill("https://status.example.org/incidents/7")
    page.get_by_label("Read files").check()
    page.get_by_role("textbox", name="Paths").fill("reports/2026\nnotes.md")
    expect(page.get_by_text("Needs one approval. Can approve: ann, ben.")).to_be_visible()
    shoot(page, "break-glass-form")
    page.get_by_role("button", name="Sign and ask").click()
    expect(page.get_by_text("1 more approval needed. Can approve: ann, ben.")).to_be_visible()
    shoot(page, "break-glass-pending")
    return Ticket.objects.get(pk=page.url.split("/")[-2])


def _press(page: Page, button: str, words: str) -> None:
    page.get_by_role("button", name=button).click()
    expect(page.get_by_text(words)).to_be_visible()


def _review(page: Page) -> None:
    """What is too short is said, and stays where it was typed."""
    field = page.get_by_label("What did you find")
    field.fill(" " * 15 + "short")
    page.get_by_role("button", name="Close the review").click()
    expect(page.get_by_role("alert")).to_contain_text("Write 20 to 4000 characters.")
    assert "short" in field.input_value()
    field.fill(FOUND)
    _press(page, "Close the review", "Thank you. The review is closed.")
    expect(page.get_by_text(FOUND)).to_be_visible()


def test_an_approver_rejects(world: World, desk: Callable[..., Page], shoot: Shoot) -> None:  # noqa: F811
    """With the passkey and with words, which the requester reads."""
    ann, requester = desk(world.people["approver"]), desk(world.people["requester"])
    for page in (ann, requester):
        page.goto(f"/break-glass/{world.mine.ticket.pk}/")
    ann.get_by_label("Why not?").fill("The status page says that it works again.")
    _press(ann, "Reject with passkey", "You have rejected it.")
    expect(requester.get_by_text("ann rejected it: The status page says")).to_be_visible()
    expect(requester.get_by_role("button")).to_have_count(1)  # to sign out


def test_an_emergency_is_narrow_and_its_review_blocks(
    world: World,
    desk: Callable[..., Page],
    shoot: Shoot,  # noqa: F811
) -> None:
    """The form offers no more than an emergency may have; until its review is written there is no next ticket."""
    page = desk(world.people["requester"])
    page.goto("/break-glass/new/")
    page.get_by_role("checkbox", name="Commands single ones").check()
    expect(page.get_by_role("radio", name="Only these folders and files")).to_be_disabled()
    page.get_by_label("Emergency").check()
    expect(page.get_by_role("checkbox", name="Commands single ones")).to_be_disabled()
    expect(page.get_by_role("checkbox", name="Commands single ones")).not_to_be_checked()
    expect(page.get_by_label("For how long?")).to_have_value("15")
    page.get_by_label("Why do you need it?").fill(WHY)
    page.get_by_label("Logs").check()
    shoot(page, "break-glass-emergency")
    page.get_by_role("button", name="Sign and ask").click()
    expect(page.get_by_role("heading", name="Emergency")).to_be_visible()
    ticket = tickets.begin(Ticket.objects.get(kind="emergency"), world.people["approver"])
    services.ticket_end(actor=Actor.of(ticket.requester), ticket=ticket)

    page.goto("/break-glass/new/?tenant=acme")
    shoot(page, "break-glass-blocked")
    page.get_by_role("link", name="write the review").click()
    page.get_by_label("What did you find").fill(FOUND)
    _press(page, "Close the review", "Thank you. The review is closed.")
    page.goto("/break-glass/new/?tenant=acme")
    expect(page.get_by_role("button", name="Sign and ask")).to_be_enabled()


def test_anybody_of_the_staff_revokes(world: World, desk: Callable[..., Page], shoot: Shoot) -> None:  # noqa: F811
    """An operator stops what runs; the requester's page says so at once, and who it was."""
    ticket = tickets.begin(world.mine.ticket, world.people["approver"])
    delivered(ticket)
    operator, requester = desk(world.people["half staff"]), desk(world.people["requester"])
    for page in (operator, requester):
        page.goto(f"/break-glass/{ticket.pk}/")
    operator.get_by_text("Revoke it").click()
    operator.get_by_label("Why?").fill("Wrong machine")
    shoot(operator, "break-glass-revoke")
    operator.get_by_role("button", name="Revoke", exact=True).click()
    expect(operator.get_by_text("You have revoked it.")).to_be_visible()
    expect(requester.get_by_text("half revoked it")).to_be_visible()
    expect(requester.get_by_role("button", name="Open the machine")).to_have_count(0)


def test_the_form_says_what_is_wrong(world: World, desk: Callable[..., Page], complaints: list[str]) -> None:  # noqa: F811
    """Beside the field, and nothing that was typed is lost."""
    page = desk(world.people["requester"])
    page.goto("/break-glass/new/")
    page.get_by_label("Why do you need it?").fill(WHY)
    page.get_by_label("Read files").check()
    page.get_by_role("textbox", name="Paths").fill("/etc/passwd")
    page.get_by_role("button", name="Sign and ask").click()
    expect(page.get_by_text("Leave out the first / of /etc/passwd.")).to_be_visible()
    assert page.evaluate("document.activeElement.name") == "paths"
    assert page.get_by_role("textbox", name="Paths").input_value() == "/etc/passwd"
    page.get_by_role("textbox", name="Paths").fill("etc/passwd")
    page.get_by_role("button", name="Sign and ask").click()
    expect(page.get_by_text("1 more approval needed")).to_be_visible()
    expected(complaints, 400)
