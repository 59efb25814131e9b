"""Passkeys and approver sets in a real browser, each colleague with an authenticator of their own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from playwright.sync_api import Browser, Page, expect

from breakglass.models import ApproverSetVersion, Passkey
from protocol.approvers import ApproverSet, check_quorum
from protocol.persons import Purpose, Site
from tests.portal.test_browser import base, browser, complaints, page, shoot, sign_in  # noqa: F401 - fixtures

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
Seat = Callable[[str], Page]


@pytest.fixture
def seat(
    browser: Browser,  # noqa: F811
    base: str,  # noqa: F811
    complaints: list[str],  # noqa: F811
    settings: Any,
    make_user: Callable[..., User],
) -> Iterator[Seat]:
    """Gives each colleague a browser of their own, signed in, with an authenticator."""
    settings.BASE_URL = base
    pages: dict[str, Page] = {}
    with ExitStack() as stack:

        def sit(name: str) -> Page:
            if name in pages:
                return pages[name]
            make_user(name, is_staff=True)
            context = browser.new_context(base_url=base, viewport={"width": 1200, "height": 800})
            stack.callback(context.close)
            context.set_default_timeout(15_000)
            opened = context.new_page()
            session = context.new_cdp_session(opened)
            session.send("WebAuthn.enable")
            session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
            bad = {"error", "warning"}
            opened.on("console", lambda m: complaints.append(m.text) if m.type in bad else None)
            opened.on("pageerror", lambda error: complaints.append(str(error)))
            sign_in(opened, name)
            pages[name] = opened
            return opened

        yield sit
    # Chromium would have us offer RS256 too; guests accept ES256 and EdDSA only, and so do we.
    complaints[:] = [line for line in complaints if "ES256 and RS256" not in line]


def register(at: Page, name: str = "Laptop") -> None:
    at.goto("/break-glass/keys/")
    at.get_by_label("Name of this device").fill(name)
    at.get_by_role("button", name="Register").click()
    expect(at.get_by_role("cell", name=name, exact=True)).to_be_visible()


def test_from_no_passkey_to_the_second_set(
    seat: Seat,
    shoot: Callable[[Page, str], None],  # noqa: F811
) -> None:
    """Three register; one proposes; each set is in force with its quorum's last signature, and verifies."""
    anna, ben, cleo = seat("anna"), seat("ben"), seat("cleo")
    User.objects.get(username="anna").user_permissions.add(Permission.objects.get(codename="propose_set"))
    anna.goto("/break-glass/approvers/")
    expect(anna.get_by_text("There is none yet")).to_be_visible()
    anna.goto("/break-glass/approvers/new/")
    expect(anna.get_by_text("Nobody of the staff has a passkey yet")).to_be_visible()
    for colleague in (anna, ben, cleo):
        register(colleague)
    shoot(anna, "break-glass-keys")

    anna.goto("/break-glass/approvers/new/")
    boxes = anna.get_by_role("checkbox")
    expect(boxes).to_have_count(3)
    for box in boxes.all():
        box.check()
    expect(anna.locator("#chosen")).to_have_text("3 people")
    anna.get_by_label("Changing this set").fill("3")
    expect(anna.get_by_text("All of them would have to sign the next change")).to_be_visible()
    anna.get_by_label("Changing this set").fill("2")
    shoot(anna, "break-glass-approvers-form")
    anna.get_by_role("button", name="Propose").click()
    expect(anna.get_by_text("0 of 2 signed")).to_be_visible()
    anna.get_by_role("button", name="Sign with passkey").click()
    expect(anna.get_by_text("1 of 2 signed")).to_be_visible()
    shoot(anna, "break-glass-approvers-proposed")
    assert not ApproverSetVersion.objects.exists()
    ben.goto("/break-glass/approvers/")
    ben.get_by_role("button", name="Sign with passkey").click()
    expect(ben.get_by_text("This set is in force now.")).to_be_visible()
    expect(ben.get_by_text("Version 1")).to_be_visible()

    ben.get_by_role("link", name="Propose a change").click()
    ben.get_by_role("checkbox").last.uncheck()
    ben.get_by_label("Commands").fill("1")
    ben.get_by_role("button", name="Propose").click()
    expect(ben.get_by_text("cleo leaves.")).to_be_visible()
    expect(ben.get_by_text("Commands: 1 person instead of 2.")).to_be_visible()
    ben.get_by_role("button", name="Sign with passkey").click()
    expect(ben.get_by_text("1 of 2 signed")).to_be_visible()
    expect(ben.get_by_role("button", name="Sign with passkey")).to_have_count(0)
    cleo.goto("/break-glass/approvers/")
    shoot(cleo, "break-glass-approvers-change")
    cleo.get_by_role("button", name="Sign with passkey").click()
    expect(cleo.get_by_text("Version 2")).to_be_visible()
    expect(cleo.get_by_role("link", name="Propose a change")).to_have_count(0)

    second, first = ApproverSetVersion.objects.all()
    site = Site("portal.localhost", {anna.url.split("/break-glass")[0]})
    people = check_quorum(
        ApproverSet.parse(first.document), Purpose.APPROVERS, second.document, second.signatures, site
    )
    assert len(people) == 2
    assert Passkey.objects.get(user__username="anna").counter > 0


def test_what_can_never_be_reached_stands_beside_its_field(
    seat: Seat,
    complaints: list[str],  # noqa: F811
    shoot: Callable[[Page, str], None],  # noqa: F811
) -> None:
    """Nothing that was typed is lost; the numbers say how many there are."""
    anna = seat("anna")
    User.objects.get(username="anna").user_permissions.add(Permission.objects.get(codename="propose_set"))
    register(anna)
    anna.goto("/break-glass/approvers/new/")
    anna.get_by_role("checkbox").check()
    anna.locator("#approver-set").evaluate("form => { form.noValidate = true }")
    anna.get_by_role("button", name="Propose").click()
    expect(anna.get_by_text("2 people can never agree: you have chosen 1.")).to_have_count(3)
    expect(anna.get_by_role("checkbox")).to_be_checked()
    shoot(anna, "break-glass-approvers-wrong")
    anna.get_by_role("checkbox").uncheck()
    anna.locator("#approver-set").evaluate("form => { form.noValidate = true }")
    anna.get_by_role("button", name="Propose").click()
    expect(anna.get_by_text("Choose at least one passkey.")).to_be_visible()
    complaints[:] = [line for line in complaints if "400 (Bad Request)" not in line]


def test_retiring_and_a_colleagues_eye(
    seat: Seat,
    shoot: Callable[[Page, str], None],  # noqa: F811
) -> None:
    """One's own; a colleague's only with the permission. A retired one says so."""
    anna, ben = seat("anna"), seat("ben")
    register(anna)
    ben.goto("/break-glass/keys/")
    expect(ben.get_by_text("Your colleagues' passkeys")).to_have_count(0)
    User.objects.get(username="ben").user_permissions.add(Permission.objects.get(codename="retire_passkey"))
    ben.reload()
    ben.get_by_text("Retire", exact=True).first.click()
    shoot(ben, "break-glass-keys-colleagues")
    ben.get_by_role("button", name="Retire").click()
    expect(ben.get_by_text("“Laptop” is retired.")).to_be_visible()
    anna.goto("/break-glass/keys/")
    expect(anna.get_by_text("Retired", exact=True)).to_be_visible()
    register(anna, "Phone")
