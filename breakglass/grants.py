"""Carries a ticket's grant to its guest, and its end. The guest decides what the grant is worth.

What is to be done is the row's word at the moment of the call, never a message's: so messages may be lost,
doubled or late. The guest remembers an end for good, so a delivery that an end overtakes opens nothing.
"""

import logging
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from audit.context import SYSTEM
from audit.services import record
from breakglass import pushing
from breakglass.clock import Clock
from breakglass.models import Approval, OwnerApproval, Revision, Ticket
from breakglass.owing import undelivered as undelivered
from breakglass.owing import unended as unended
from breakglass.pacing import PACE
from protocol.tickets import Grant
from provisioning.runtime_client import AgentRefused, AgentUnreachable, RuntimeClient

log = logging.getLogger(__name__)
State = Ticket.State
LACKING = frozenset({"wrong_set", "no_approvers", "closed", "owner_missing"})
"""Of those, the ones that a set or terms which it has not been told may cure."""


def apply(ticket_id: UUID, *, repeated: bool = False) -> None:
    """Do what the ticket's row asks for: deliver, end, or nothing.

    Args:
        repeated: the sweep's, which does not press a guest that has just not answered.

    Raises:
        AgentUnreachable, AgentRefused: the sweep tries again.
    """
    for deed, asked in ((_deliver, undelivered()), (_end, unended())):
        if repeated and not PACE.due(deed.__name__, ticket_id):
            continue
        ticket = asked.filter(pk=ticket_id).select_related("runtime").first()
        if ticket is None:
            continue
        with PACE.alone(deed.__name__, ticket_id) as mine:
            if mine:
                deed(ticket)


def grant_of(ticket: Ticket) -> Grant:
    """The ticket with every signature that was given for its revision, as people gave them."""
    this = {"ticket": ticket.pk, "revision": ticket.revision}
    revision = Revision.objects.get(**this)
    owner = OwnerApproval.objects.filter(**this).first()
    return Grant(
        document=revision.document,
        request=revision.signature,
        approvals=tuple(Approval.objects.filter(**this).values_list("signature", flat=True)),
        owner=owner.signature if owner else None,
    )


def _deliver(ticket: Ticket) -> None:
    client = RuntimeClient.urgent(ticket.runtime)
    grant = grant_of(ticket).to_document()
    try:
        try:
            answer = client.deliver_grant(grant)
        except AgentRefused as error:
            if error.code not in LACKING:
                raise
            pushing.confirm(ticket.runtime, client)
            answer = client.deliver_grant(grant)
    except AgentRefused as error:
        _note_refusal(ticket, error)
        raise
    _note_delivery(ticket, _time(answer.get("until")))


@transaction.atomic
def _note_delivery(ticket: Ticket, until: datetime) -> None:
    """Also of one that is over by now: the guest has it, and the end is on its way."""
    fresh = Ticket.objects.filter(pk=ticket.pk, delivered_at=None)
    if fresh.update(delivered_at=Clock(), guest_until=until, delivery_refused=""):
        _record("break_glass.granted", ticket, revision=ticket.revision, until=int(until.timestamp()))


@transaction.atomic
def _note_refusal(ticket: Ticket, error: AgentRefused) -> None:
    """Once for each reason."""
    fresh = Ticket.objects.filter(pk=ticket.pk, state=State.ACTIVE).exclude(delivery_refused=error.code)
    if error.status < 500 and fresh.update(delivery_refused=error.code):
        _record("break_glass.grant_refused", ticket, revision=ticket.revision, code=error.code)


def _end(ticket: Ticket) -> None:
    answer = RuntimeClient.urgent(ticket.runtime).end_grant(str(ticket.pk))
    streams = answer.get("streams")
    if not isinstance(answer.get("ended"), bool) or type(streams) is not int or not 0 <= streams < 2**31:
        raise AgentUnreachable("The guest's answer to an end is malformed.")
    _note_end(ticket, was_open=answer["ended"], streams=streams)


@transaction.atomic
def _note_end(ticket: Ticket, *, was_open: bool, streams: int) -> None:
    fresh = Ticket.objects.filter(pk=ticket.pk, end_confirmed_at=None)
    if fresh.update(end_confirmed_at=Clock()):
        _record("break_glass.end_confirmed", ticket, was_open=was_open, streams=streams)


def _record(action: str, ticket: Ticket, **data: Any) -> None:
    record(
        action=action,
        actor=SYSTEM,
        tenant_id=ticket.tenant_id,
        target=("ticket", ticket.pk),
        data=data,
    )


def _time(value: Any) -> datetime:
    if type(value) is not int or not 0 < value < 2**33:
        raise AgentUnreachable("The guest's answer to a grant is malformed.")
    return datetime.fromtimestamp(value, UTC)
