"""Break-glass by the tenant's owner: what the pages and the API change, and the entry that each leaves."""

import json
from typing import Any

from django.conf import settings
from django.test import Client

from audit.context import Actor
from breakglass.models import ApproverSetVersion
from breakglass.services.terms import terms_accept, terms_draft
from protocol.persons import Purpose, encode
from tenants.services import key_register, keyring_accept
from tests.completeness.case import Case
from tests.portal import tickets
from tests.portal.conftest import World, device_of
from tests.portal.test_members import send
from tests.protocol.people import entry, naming

PAGE = "/t/acme/break-glass/"


def with_passkey(world: World) -> None:
    """The owner has a passkey in the keyring, so that the page can be signed; the naming is of the one before."""
    user, tenant, before = world.people["owner"], world.mine.tenant, world.mine.keyring
    key = tickets.authenticator(user).key
    given: dict[str, Any] = {"actor": Actor.of(user), "tenant": tenant}
    key_register(
        **given, kind="passkey", public_key=key.public_key, name="Laptop", credential_id=encode(b"owner")
    )
    changed = {"version": 2, "previous": before.hash, "members": [*before.document["members"], entry(key)]}
    document = before.document | changed
    signature = device_of(user.username).sign(Purpose.KEYRING, document)
    keyring_accept(**given, document=document, signature=signature)


def wants_owner(world: World) -> None:
    """A ticket that waits for an owner."""
    with_passkey(world)
    user, tenant = world.people["owner"], world.mine.tenant
    document = terms_draft(tenant=tenant, ordinary="owner", emergency="owner")
    signature = device_of(user.username).sign(Purpose.TERMS, document)
    terms_accept(actor=Actor.of(user), tenant=tenant, document=document, signature=signature)
    world.mine.ticket = tickets.ask(world.mine.ticket.requester, tenant)


def on_page(world: World, client: Client, path: str, purpose: Purpose, **form: str) -> Any:
    """Both steps of signing in the page."""
    asked = client.post(PAGE + path, form).json()
    device = tickets.authenticator(world.people["owner"])
    signature = device.sign(purpose, asked["document"], origin=settings.BASE_URL)
    return client.post(PAGE + path, form | {"signature": json.dumps(signature)})


def agree(world: World, client: Client) -> Any:
    return on_page(world, client, f"{world.mine.ticket.pk}/approve/", Purpose.OWNER_APPROVAL, revision="1")


def name(world: World, client: Client) -> Any:
    current = ApproverSetVersion.objects.latest("version")
    return on_page(world, client, "approvers/name/", Purpose.NAMING, hash=current.hash)


def sign_terms(world: World, client: Client) -> Any:
    form = {"ordinary": "owner", "emergency": "closed"}
    return on_page(world, client, "approvers/terms/", Purpose.TERMS, **form)


def revoke(world: World, client: Client) -> Any:
    return client.post(f"{PAGE}{world.mine.ticket.pk}/revoke/", {"words": "Not now."})


def agree_by_key(world: World, client: Client) -> Any:
    ticket = world.mine.ticket
    signature = device_of("owner-of-acme").sign(Purpose.OWNER_APPROVAL, ticket.document)
    given = {"revision": 1, "signature": signature}
    return send(client, f"break-glass/{ticket.pk}/approve/", given, "post")


def revoke_by_key(world: World, client: Client) -> Any:
    return send(client, f"break-glass/{world.mine.ticket.pk}/revoke/", {"words": ""}, "post")


def name_by_key(world: World, client: Client) -> Any:
    current = ApproverSetVersion.objects.latest("version")
    signature = naming(device_of("owner-of-acme"), current.document, str(world.mine.tenant.pk))
    given = {"version": current.version, "signature": signature}
    return send(client, "break-glass/approvers/", given, "post")


def terms_by_key(world: World, client: Client) -> Any:
    document = terms_draft(tenant=world.mine.tenant, ordinary="closed", emergency="closed")
    given = {"document": document, "signature": device_of("owner-of-acme").sign(Purpose.TERMS, document)}
    return send(client, "break-glass/terms/", given, "post")


CHANGES: dict[tuple[str, str], list[Case]] = {
    ("tenant-break-glass-approve", "post"): [Case(agree, "ticket.owner_approved", "owner", wants_owner)],
    ("tenant-break-glass-revoke", "post"): [Case(revoke, "ticket.revoked", "owner")],
    ("tenant-break-glass-name", "post"): [Case(name, "approvers.named", "owner", with_passkey)],
    ("tenant-break-glass-terms", "post"): [Case(sign_terms, "terms.accepted", "owner", with_passkey)],
    ("api-break-glass-approve", "post"): [Case(agree_by_key, "ticket.owner_approved", "owner", wants_owner)],
    ("api-break-glass-revoke", "post"): [Case(revoke_by_key, "ticket.revoked", "owner")],
    ("api-break-glass-approvers", "post"): [Case(name_by_key, "approvers.named", "owner", with_passkey)],
    ("api-break-glass-terms", "post"): [Case(terms_by_key, "terms.accepted", "owner")],
}
_FILE = "writes an entry and nothing else; tests/portal/breakglass/test_tenant.py"
UNCHANGING = {
    ("tenant-break-glass-receipts", "post"): _FILE,
    ("api-break-glass-receipts", "post"): _FILE,
}
