"""Tickets: the changes of the staff's pages, and the entry that each leaves."""

import json
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from audit.context import Actor
from breakglass import services
from breakglass.models import Ticket
from protocol.persons import Purpose
from tests.completeness.case import Case
from tests.portal import tickets
from tests.portal.conftest import World

FORM = {"reason": tickets.WHY, "scopes": "status", "minutes": "15", "tenant": "acme"}


def url(world: World, deed: str) -> str:
    return f"/break-glass/{world.mine.ticket.pk}/{deed}/"


def both_steps(client: Client, user: User, address: str, purpose: Purpose, form: dict[str, str]) -> Any:
    """As sign.js does it."""
    asked = client.post(address, form)
    if asked.status_code != 200:
        return asked
    device = tickets.authenticator(user)
    signature = device.sign(purpose, asked.json()["document"], origin=settings.BASE_URL)
    return client.post(address, form | {"signature": json.dumps(signature)})


def ask(world: World, client: Client) -> Any:
    user = world.people["requester"]
    return both_steps(client, user, "/break-glass/new/", Purpose.ACCESS_REQUEST, FORM)


def edit(world: World, client: Client) -> Any:
    user = world.people["requester"]
    return both_steps(client, user, url(world, "edit"), Purpose.ACCESS_REQUEST, FORM)


def approve(world: World, client: Client) -> Any:
    form = {"revision": "1"}
    user = world.people["approver"]
    return both_steps(client, user, url(world, "approve"), Purpose.APPROVAL, form)


def reject(world: World, client: Client) -> Any:
    form = {"revision": "1", "words": "It works again."}
    user = world.people["approver"]
    return both_steps(client, user, url(world, "reject"), Purpose.REJECTION, form)


def press(deed: str, **form: str) -> Callable[[World, Client], Any]:
    """One of the buttons that need no signature."""
    return lambda world, client: client.post(url(world, deed), form)


def approved(world: World) -> None:
    tickets.approve(world.people["approver"], world.mine.ticket)


def active(world: World) -> None:
    tickets.begin(world.mine.ticket, world.people["approver"])
    Ticket.objects.filter(pk=world.mine.ticket.pk).update(delivered_at=timezone.now())
    type(world.mine.runtime).objects.filter(pk=world.mine.runtime.pk).update(agent_address="192.0.2.2:8443")


def ended(world: World) -> None:
    ticket = tickets.begin(world.mine.ticket, world.people["approver"])
    services.ticket_end(actor=Actor.of(ticket.requester), ticket=ticket)


CHANGES: dict[tuple[str, str], list[Case]] = {
    ("break-glass-new", "post"): [Case(ask, "ticket.opened", "requester")],
    ("break-glass-edit", "post"): [Case(edit, "ticket.edited", "requester")],
    ("break-glass-approve", "post"): [Case(approve, "ticket.approved", "approver")],
    ("break-glass-reject", "post"): [Case(reject, "ticket.rejected", "approver")],
    ("break-glass-withdraw", "post"): [Case(press("withdraw"), "ticket.withdrawn", "requester")],
    ("break-glass-start", "post"): [Case(press("start"), "ticket.started", "requester", approved)],
    ("break-glass-open", "post"): [Case(press("open"), "break_glass.opened", "requester", active)],
    ("break-glass-end", "post"): [Case(press("end"), "ticket.ended", "requester", active)],
    ("break-glass-revoke", "post"): [
        Case(press("revoke", words="Wrong machine"), "ticket.revoked", "half staff"),
        Case(press("revoke", words="Wrong machine"), "ticket.revoked", "approver", active),
    ],
    ("break-glass-review", "post"): [
        Case(
            press("review", text="I renewed the certificate and read nothing else."),
            "ticket.reviewed",
            "requester",
            ended,
        )
    ],
}
