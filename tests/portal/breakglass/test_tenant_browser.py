"""The tenant's side in a real browser: an owner names approvers, signs terms and a ticket, watches, and stops it."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from audit.context import Actor
from breakglass.models import OwnerApproval, TenantApprovers, TermsVersion, Ticket
from protocol.approvers import ApproverSet, naming_document
from protocol.persons import PersonKey, Purpose, encode, verify
from tenants.services import key_register, keyring_accept
from tenants.sites import site
from tests.portal import tickets
from tests.portal.breakglass.done import READ, tell
from tests.portal.breakglass.test_staff_browser import OPTIONS
from tests.portal.conftest import World, device_of
from tests.portal.test_browser import (  # noqa: F401 - fixtures
    base,
    browser,
    complaints,
    page,
    shoot,
    sign_in,
)
from tests.protocol.people import Passkey, entry

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
Shoot = Callable[[Page, str], None]
CREDENTIAL = b"the owner's laptop"
ASKED: dict[str, Any] = {
    "scopes": ["workspace:read"],
    "paths": ["reports", "logs/nightly"],
    "reason": "The nightly report stopped on Tuesday, and your finance team asked us to find out why.",
    "incident": "https://status.example.com/incidents/417",
    "seconds": 1800,
}
DONE: list[tuple[str, str, dict[str, Any]]] = [
    ("granted", "", {}),
    ("session", "t0", {}),
    ("access", "t1", READ | {"route": "/v1/break-glass/list", "path": "reports"}),
    ("outcome", "t1", {"status": 200}),
    ("access", "t2", READ | {"path": "reports/2026-11/nightly.csv"}),
    ("outcome", "t2", {"status": 200, "bytes": 48213, "sha256": "ab" * 32}),
    ("access", "t3", READ | {"path": "logs/nightly/last.txt"}),
    ("outcome", "t3", {"status": 404}),
]


@pytest.fixture
def owner(
    world: World,
    page: Page,  # noqa: F811
    base: str,  # noqa: F811
    settings: Any,
) -> User:
    """The owner's browser holds a passkey that the keyring names."""
    settings.BASE_URL = base
    user, tenant = world.people["owner"], world.mine.tenant
    device, made = device_of(user.username), tickets.authenticator(user)
    key_register(
        actor=Actor.of(user),
        tenant=tenant,
        kind="passkey",
        public_key=made.key.public_key,
        name="Laptop",
        credential_id=encode(CREDENTIAL),
    )
    before = world.mine.keyring.document
    following = before | {
        "version": 2,
        "previous": world.mine.keyring.hash,
        "members": [*before["members"], entry(made.key, name="The owner's laptop")],
    }
    keyring_accept(
        actor=Actor.of(user),
        tenant=tenant,
        document=following,
        signature=device.sign(Purpose.KEYRING, following),
    )
    hold(page, made)
    return user


def hold(page: Page, device: Passkey) -> None:  # noqa: F811
    """Put the passkey into the page's browser."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": OPTIONS})
    private = device.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    credential = {
        "credentialId": base64.b64encode(CREDENTIAL).decode(),
        "isResidentCredential": True,
        "rpId": "portal.localhost",
        "privateKey": base64.b64encode(private).decode(),
        "userHandle": base64.b64encode(b"owner").decode(),
        "signCount": 1,
    }
    session.send(
        "WebAuthn.addCredential", {"authenticatorId": made["authenticatorId"], "credential": credential}
    )


def signed(world: World, key: PersonKey, row: Any, purpose: Purpose, document: Any) -> None:
    verify(key, row.signature, purpose, document, site(world.mine.tenant))


def test_an_owner_decides_watches_and_stops(
    world: World,
    owner: User,
    page: Page,  # noqa: F811
    shoot: Shoot,  # noqa: F811
) -> None:
    """From naming approvers to the end of an access, each signature made by the owner's passkey."""
    ann, key = User.objects.get(username="ann"), tickets.authenticator(owner).key
    sign_in(page, owner.username)
    page.get_by_role("link", name="Break-glass").click()
    page.get_by_role("link", name="Who lets staff in").click()
    shoot(page, "break-glass-tenant-approvers")
    page.get_by_text("Name them again").click()
    page.get_by_role("button", name="Name them with passkey").click()
    expect(page.get_by_text("You have named them.")).to_be_visible()
    named = TenantApprovers.objects.filter(tenant=world.mine.tenant)[0]
    document = naming_document(str(world.mine.tenant.pk), ApproverSet.parse(named.set.document))
    signed(world, key, named, Purpose.NAMING, document)
    terms = page.locator("#terms")
    terms.get_by_role("group", name="Ordinary tickets").get_by_label("Approvers and an owner").check()
    terms.get_by_role("button", name="Sign with passkey").click()
    expect(page.get_by_text("They hold from now on.")).to_be_visible()
    kept = TermsVersion.objects.get(tenant=world.mine.tenant)
    assert (kept.document["ordinary"], kept.document["emergency"]) == ("owner", "approvers")
    signed(world, key, kept, Purpose.TERMS, kept.document)

    ticket = tickets.ask(world.mine.ticket.requester, world.mine.tenant, **ASKED)
    tickets.approve(ann, ticket)
    page.goto("/t/acme/break-glass/")
    expect(page.get_by_text("Waits for one of your owners")).to_be_visible()
    shoot(page, "break-glass-tenant-list")
    page.locator(".ticket", has_text="Waits for one of your owners").get_by_role("link").click()
    expect(page.get_by_text("status.example.com")).to_be_visible()
    shoot(page, "break-glass-tenant-waiting")
    page.get_by_role("button", name="Agree with passkey").click()
    expect(page.get_by_text("One of your owners agreed")).to_be_visible()
    agreed = OwnerApproval.objects.get(ticket=ticket)
    signed(world, key, agreed, Purpose.OWNER_APPROVAL, ticket.document)

    begun = tickets.begin(Ticket.objects.get(pk=ticket.pk))
    tell(world.mine, begun, DONE)
    expect(page.get_by_role("button", name="Stop it now")).to_be_visible()
    expect(page.get_by_text("reports/2026-11/nightly.csv")).to_be_visible()
    shoot(page, "break-glass-tenant-active")
    tell(world.mine, begun, [("access", "t4", READ | {"path": "reports/summary.txt"})])
    expect(page.get_by_text("reports/summary.txt")).to_be_visible()
    page.get_by_role("button", name="Stop it now").click()
    expect(page.get_by_text("The machine has not confirmed yet that it is over")).to_be_visible()
    assert Ticket.objects.get(pk=ticket.pk).state == "revoked"
    shoot(page, "break-glass-tenant-stopped")
