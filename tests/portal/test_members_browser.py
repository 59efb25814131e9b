"""A members' page in a real browser, with a virtual authenticator: from no key at all to signed consents."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from protocol.keyrings import Keyring
from protocol.persons import PersonKey, Purpose, sign_with_device_key, verify
from tenants.models import ConsentVersion, KeyringVersion, MemberKey, Tenant
from tenants.sites import site
from tests.portal.conftest import World, device_of
from tests.portal.test_browser import base, browser, complaints, page, shoot, sign_in  # noqa: F401 - fixtures
from tests.portal.test_members import states

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def signer(page: Page, base: str, complaints: list[str], settings: Any) -> Iterator[Page]:  # noqa: F811
    """A page whose browser holds an authenticator that verifies its user; questions are answered with yes."""
    settings.BASE_URL = base
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    session.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    session.detach()
    # Chromium would have us offer RS256 too; guests accept ES256 and EdDSA only, and so do we.
    complaints[:] = [line for line in complaints if "ES256 and RS256" not in line]


def test_from_no_key_to_signed_consents(
    tenant: Tenant,
    owner: User,
    signer: Page,
    shoot: Callable[[Page, str], None],  # noqa: F811
) -> None:
    """An owner registers a passkey, sets up the keyring, adds a second key, and switches consents on and off."""
    sign_in(signer, "owner")
    signer.get_by_role("link", name="Members and keys").click()
    expect(signer.get_by_text("First register a passkey on this device")).to_be_visible()
    shoot(signer, "members-empty")
    signer.get_by_label("Name of this device").fill("Laptop")
    signer.get_by_role("button", name="Register a passkey on this device").click()
    expect(signer.get_by_role("cell", name="Laptop")).to_be_visible()
    expect(signer.get_by_text("Set up the keyring: until then nobody can sign in")).to_be_visible()

    signer.get_by_role("button", name="Set up the keyring").click()
    seed = signer.locator("#seed")
    expect(seed).not_to_be_empty()
    shown = bytes.fromhex(seed.inner_text())
    assert len(shown) == 32
    finish = signer.get_by_role("button", name="Sign and finish")
    expect(finish).to_be_disabled()
    shoot(signer, "members-recovery")
    signer.get_by_label("I have saved it").check()
    finish.click()
    expect(signer.get_by_text("Version 1")).to_be_visible()
    first = KeyringVersion.objects.get()
    assert shown.hex() not in signer.content() + repr(first.document)
    recovery = Keyring.parse(first.document).recovery
    verify(recovery, sign_with_device_key(shown, Purpose.KEYRING, {}), Purpose.KEYRING, {})

    signer.get_by_label("Name of the key").fill("Work terminal")
    signer.get_by_label("Public key").fill(device_of("owner").key.public_key.hex())
    signer.get_by_role("button", name="Add a device key").click()
    signer.get_by_role("row", name="Work terminal").get_by_role("button", name="Add").click()
    expect(signer.get_by_text("Version 2")).to_be_visible()
    expect(signer.get_by_role("row", name="owner: Work terminal")).to_be_visible()

    for button, state, badge in (
        ("Switch on", "On", "#agents-state"),
        ("Switch on", "On", "#always-on-state"),
        ("Switch off", "Off", "#always-on-state"),
        ("Switch off", "Off", "#agents-state"),
    ):
        row = signer.locator(".consent", has=signer.locator(badge))
        row.get_by_role("button", name=button).click()
        expect(signer.locator(badge)).to_have_text(state)
        if badge == "#always-on-state" and state == "On":
            shoot(signer, "members-signed")
    kept = [
        (row.document["agents"], row.document["always_on"]) for row in ConsentVersion.objects.order_by("pk")
    ]
    assert kept == [(True, False), (True, True), (True, False), (False, False)]

    signer.get_by_role("row", name="owner: Work terminal").get_by_role("button", name="Remove").click()
    expect(signer.get_by_text("Version 3")).to_be_visible()
    signer.get_by_role("row", name="Work terminal").get_by_role("button", name="Delete").click()
    expect(signer.get_by_role("row", name="Work terminal")).to_have_count(0)
    key = MemberKey.objects.get()
    person = PersonKey(key.kind, bytes.fromhex(key.public_key))
    for kept_one in KeyringVersion.objects.all():
        verify(person, kept_one.signature, Purpose.KEYRING, kept_one.document, site(tenant))


def test_a_refusal_stands_on_the_page(
    tenant: Tenant,
    owner: User,
    signer: Page,
    complaints: list[str],  # noqa: F811
) -> None:
    """What the portal does not take is said in words, and nothing that was typed is lost."""
    sign_in(signer, "owner")
    signer.goto("/t/acme/members/")
    signer.get_by_label("Name of the key").fill("Broken")
    signer.get_by_label("Public key").fill("f" * 64)
    signer.get_by_role("button", name="Add a device key").click()
    expect(signer.get_by_role("alert")).to_contain_text("This is no Ed25519 public key.")
    assert signer.get_by_label("Name of the key").input_value() == "Broken"
    assert {line[:3] for line in complaints if line[:3] == "409"} == {"409"}
    complaints.clear()


def test_the_page_for_those_who_look(
    world: World,
    signer: Page,
    shoot: Callable[[Page, str], None],  # noqa: F811
) -> None:
    """A member and an operator: what the machine states, and no button to sign with."""
    states(world)
    for name in ("member", "operator"):
        signer.context.clear_cookies()
        sign_in(signer, name)
        signer.goto("/t/acme/members/")
        expect(signer.get_by_text("✓ states it")).to_have_count(2)
        expect(signer.get_by_role("button", name="Switch off")).to_have_count(0)
        shoot(signer, f"members-{name}")
