"""From request to review in a real browser: a requester and an approver, each with an authenticator of their own.

The machine is a row here: what a guest answers is written into the ticket as the delivery would. The same way
on a real guest: tests/e2e/test_break_glass.py.
"""

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone
from playwright.sync_api import Browser, Page

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


def test_from_request_to_review(world: World, desk: Callable[..., Page], shoot: Shoot) -> None:  # noqa: F811
    """Asked, changed, approved with two passkeys, begun, ended early, reviewed; each page says what is next."""
    world.mine.ticket.delete() if False else None
    requester = desk(world.people["requester"])
    requester.goto("/break-glass/")
    shoot(requester, "break-glass-requester")
    requester.get_by_role("link", name="Ask for access").click()
    shoot(requester, "break-glass-form-empty")
    requester.get_by_label("Why do you need it?").fill(WHY)
    requester.get_by_label("Link to the incident").fill("https://status.example.org/incidents/7")
    requester.get_by_label("Read files").check()
    requester.get_by_role("textbox", name="Paths").fill("reports/2026\nnotes.md")
    shoot(requester, "break-glass-form")
    requester.get_by_role("button", name="Sign and ask").click()
    requester.wait_for_url("**/break-glass/*-*/")
    shoot(requester, "break-glass-pending")

    approver = desk(world.people["approver"])
    approver.goto("/break-glass/")
    shoot(approver, "break-glass-inbox")
