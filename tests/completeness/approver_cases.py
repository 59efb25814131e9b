"""Passkeys and approver sets: the changes of the staff's pages, and the entry that each leaves."""

import json
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from audit.context import Actor
from breakglass.models import Passkey, SetProposal
from breakglass.people import usable_passkeys
from breakglass.services.sets import set_draft, set_propose, set_sign
from protocol.approvers import DEFAULT_POLICY
from protocol.persons import Purpose
from tests.completeness.case import Case
from tests.portal.authenticator import cose_of, creation
from tests.portal.conftest import World
from tests.portal.tickets import authenticator
from tests.protocol.people import Passkey as Authenticator

PHONE = Authenticator()


def register(world: World, client: Client) -> Any:
    """Both halves: the browser's challenge, and what its authenticator made."""
    asked = client.post("/break-glass/keys/options/").json()
    made = creation(asked["challenge"], cose_of(PHONE), credential_id=b"phone")
    return client.post("/break-glass/keys/", {"name": "Phone", "credential": json.dumps(made)})


def retire(world: World, client: Client) -> Any:
    key = Passkey.objects.filter(user=world.people["approver"]).get()
    return client.post(f"/break-glass/keys/{key.pk}/retire/")


def propose(world: World, client: Client) -> Any:
    keys = list(usable_passkeys().values_list("fingerprint", flat=True))
    form = {"threshold": "1", **dict.fromkeys(DEFAULT_POLICY, "1")}
    return client.post("/break-glass/approvers/new/", {"keys": keys, **form})


def proposed(world: World) -> None:
    """By an approver of the set in force; the other one has signed, so one signature is lacking."""
    keys = list(usable_passkeys(world.people["approver"]))
    document = set_draft(passkeys=keys, threshold=1, policy=dict.fromkeys(DEFAULT_POLICY, 1))
    proposal = set_propose(actor=Actor.of(world.people["approver"]), document=document)
    other = User.objects.get(username="ben")
    signature = authenticator(other).sign(Purpose.APPROVERS, proposal.document, origin=settings.BASE_URL)
    set_sign(actor=Actor.of(other), proposal=proposal, signature=signature)


def sign(world: World, client: Client) -> Any:
    """Both steps of signing in the page."""
    proposal = SetProposal.objects.get()
    url = f"/break-glass/approvers/{proposal.pk}/sign/"
    asked = client.post(url).json()
    device = authenticator(world.people["approver"])
    signature = device.sign(Purpose.APPROVERS, asked["document"], origin=settings.BASE_URL)
    return client.post(url, {"signature": json.dumps(signature)})


def withdraw(world: World, client: Client) -> Any:
    return client.post(f"/break-glass/approvers/{SetProposal.objects.get().pk}/withdraw/")


CHANGES: dict[tuple[str, str], list[Case]] = {
    ("break-glass-keys", "post"): [Case(register, "passkey.registered", "requester")],
    ("break-glass-key-retire", "post"): [
        Case(retire, "passkey.retired", "approver"),
        Case(retire, "passkey.retired", "superuser"),
    ],
    ("break-glass-approvers-new", "post"): [Case(propose, "approvers.proposed", "approver")],
    ("break-glass-set-sign", "post"): [Case(sign, "approvers.accepted", "approver", proposed)],
    ("break-glass-set-withdraw", "post"): [Case(withdraw, "approvers.withdrawn", "approver", proposed)],
}
UNCHANGING: dict[tuple[str, str], str] = {
    ("break-glass-key-options", "post"): "puts a challenge into the caller's own session"
}
