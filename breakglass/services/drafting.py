"""What the requester is about to sign, and whether what they have signed may stand."""

import secrets
import unicodedata
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from audit.context import Actor
from breakglass import selectors
from breakglass.clock import database_time
from breakglass.models import PERSON, Passkey, Ticket
from breakglass.refusals import TicketRefused, in_sentences
from breakglass.standing import Standing, standing
from protocol import tickets as form
from protocol.ticket_form import MAX_NAME, MAX_WAIT_SECONDS
from provisioning.models import Runtime
from tenants.models import Tenant
from tenants.selectors import is_operator

SIGN_WITHIN_SECONDS = 300
"""How long a person may take to sign what the page has drafted."""
MAX_OPEN = 5
"""Tickets of one person that are not over."""


@dataclass(frozen=True)
class Checked:
    """A document that may become a ticket, or its next revision, if it is signed."""

    ticket: form.Ticket
    tenant: Tenant
    passkey: Passkey
    runtime: Runtime
    standing: Standing

    @property
    def needed(self) -> int:
        """How many people must approve."""
        return form.needed(self.ticket, self.standing.approvers)

    @property
    def needs_owner(self) -> bool:
        """Whether the owner's terms ask for an owner's signature as well."""
        return self.standing.mode(self.ticket.kind) == "owner"


@in_sentences
def draft(
    *,
    actor: Actor,
    tenant: Tenant,
    kind: str,
    reason: str,
    incident: str = "",
    scopes: Collection[str],
    paths: Collection[str] = (),
    seconds: int = form.DEFAULT_SECONDS,
    passkey: Passkey,
    ticket: Ticket | None = None,
) -> dict[str, Any]:
    """The document that the requester signs for ``Purpose.ACCESS_REQUEST``. Writes nothing.

    Args:
        passkey: the one that they will sign with, and later open the guest's page with.
        ticket: the one that this is the next revision of; its waiting time goes on.

    Raises:
        TicketRefused: ``not_allowed``, ``not_your_key``, ``review_due``, ``too_many``, ``emergency_open``,
            ``no_machine``, ``no_approvers``, ``closed``, ``unsatisfiable``, ``malformed``, ``over`` or
            ``started``.
    """
    now = int(database_time().timestamp())
    current = standing(tenant)
    begun = ticket.document if ticket else {"asked_at": now, "wait_until": now + MAX_WAIT_SECONDS}
    document = {
        "format": form.FORMAT,
        "ticket": str(ticket.pk if ticket else uuid.uuid4()),
        "revision": ticket.revision + 1 if ticket else 1,
        "kind": kind,
        "tenant_id": str(tenant.pk),
        "runtime_id": str(ticket.runtime_id if ticket else _machine(tenant).pk),
        "requester": {
            "person": PERSON % actor.id,
            "name": name_of(actor),
            "key": passkey.public_key,
        },
        "reason": plain(reason),
        "incident": incident.strip(),
        "scopes": sorted(set(scopes)),
        "paths": sorted({unicodedata.normalize("NFC", path) for path in paths}),
        "seconds": seconds,
        "asked_at": begun["asked_at"],
        "wait_until": begun["wait_until"],
        "approvers": {"version": current.row.version, "hash": current.row.hash},
        "nonce": secrets.token_hex(16),
    }
    check(actor, document, ticket)
    return document


def check(actor: Actor, document: Any, ticket: Ticket | None = None) -> Checked:
    """Whether ``actor`` may ask for what ``document`` says, now. The same for a draft and for what came back.

    Raises:
        TicketRefused: as :func:`draft` does.
    """
    parsed = form.Ticket.parse(document)
    tenant = _tenant(actor, parsed, ticket)
    passkey = _passkey(actor, parsed)
    if ticket is None:
        _check_first(actor, parsed)
    else:
        _check_next(actor, parsed, ticket)
    current = standing(tenant)
    _check_satisfiable(parsed, current)
    runtime = _machine(tenant)
    if str(runtime.pk) != parsed.runtime_id:
        raise TicketRefused("no_machine", "The tenant has another machine by now. Ask anew.")
    return Checked(parsed, tenant, passkey, runtime, current)


def check_debt(actor: Actor) -> None:
    """The price of an emergency. Race-free where the caller has the person's row (one request at a time).

    Raises:
        TicketRefused: ``review_due``, also while the emergency runs; ``not_allowed``.
    """
    if actor.user is None:
        raise _not_allowed()
    owed = selectors.emergency_debt(actor.user)
    if owed is None:
        return
    if owed.open:
        raise TicketRefused("review_due", "Your emergency access runs. End it and write its review first.")
    raise TicketRefused("review_due", "Your emergency access has no review yet. Write it; then ask for more.")


def name_of(actor: Actor) -> str:
    """As approvers read it in the ticket."""
    if actor.user is None:
        raise _not_allowed()
    full = getattr(actor.user, "get_full_name", str)().strip()
    name = f"{full} ({actor.user.get_username()})" if full else actor.user.get_username()
    return unicodedata.normalize("NFC", name)[:MAX_NAME]


def plain(text: str) -> str:
    """What a person typed, in the one spelling that is signed."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _tenant(actor: Actor, parsed: form.Ticket, ticket: Ticket | None) -> Tenant:
    found = Tenant.objects.filter(pk=parsed.tenant_id, offboarded_at=None).first()
    if found is None or actor.user is None or not is_operator(actor.user, found):
        raise _not_allowed()
    if ticket is not None and ticket.tenant_id != found.pk:
        raise _not_allowed()
    return found


def _passkey(actor: Actor, parsed: form.Ticket) -> Passkey:
    asker = parsed.requester
    own = selectors.keys_of_person(actor.user) if actor.user else Passkey.objects.none()
    key = own.filter(public_key=asker.key.public_key.hex()).first()
    if key is None or asker.person != PERSON % actor.id or asker.name != name_of(actor):
        raise TicketRefused("not_your_key", "Ask with a passkey of your own that is in use.")
    return key


def _check_first(actor: Actor, parsed: form.Ticket) -> None:
    now = int(database_time().timestamp())
    if parsed.revision != 1 or not now - SIGN_WITHIN_SECONDS <= parsed.asked_at <= now + 5:
        raise TicketRefused("stale", "This was drafted too long ago. Reload the page and sign anew.")
    if Ticket.objects.filter(pk=parsed.ticket).exists():
        raise TicketRefused("stale", "This ticket is there already. Look at it, or ask anew.")
    check_debt(actor)
    mine = Ticket.objects.filter(requester_id=int(actor.id), state__in=Ticket.OPEN)
    if mine.count() >= MAX_OPEN:
        raise TicketRefused("too_many", f"You have {MAX_OPEN} open tickets. End or withdraw one first.")
    if parsed.kind == Ticket.Kind.EMERGENCY and mine.filter(kind=parsed.kind).exists():
        raise TicketRefused("emergency_open", "You have an open emergency already. End or withdraw it first.")


def _check_next(actor: Actor, parsed: form.Ticket, ticket: Ticket) -> None:
    if str(ticket.requester_id) != actor.id:
        raise _not_allowed()
    check_debt(actor)
    if ticket.state not in Ticket.WAITING:
        code = "started" if ticket.state == Ticket.State.ACTIVE else "over"
        raise TicketRefused(code, "Only a ticket that waits can be changed. Ask for a new one.")
    before = ticket.document
    fixed = ("ticket", "kind", "tenant_id", "runtime_id", "asked_at", "wait_until")
    if any(parsed.document[name] != before[name] for name in fixed):
        raise TicketRefused("malformed", "Kind, machine and times of a ticket stay. Ask for a new one.")
    if parsed.revision != ticket.revision + 1:
        raise TicketRefused("edited", "The ticket has changed meanwhile. Reload the page and look again.")


def _check_satisfiable(parsed: form.Ticket, current: Standing) -> None:
    mine = {"version": current.row.version, "hash": current.row.hash}
    if parsed.document["approvers"] != mine:
        raise TicketRefused("stale", "There is another approver set by now. Reload the page and sign anew.")
    if current.mode(parsed.kind) == "closed":
        raise TicketRefused("closed", "The tenant's owner lets nobody in this way. Ask an owner.")
    wanted = form.needed(parsed, current.approvers)
    usable = {key.person for key in selectors.keys_in(current.row)}
    people = form.may_approve(parsed, current.approvers) & usable
    if len(people) < wanted:
        raise TicketRefused(
            "unsatisfiable",
            f"This needs {wanted} approvals, and {len(people)} people besides you can give one. "
            "Ask for less, or have the approver set changed.",
        )


def _machine(tenant: Tenant) -> Runtime:
    found = Runtime.objects.filter(
        ~Q(phase=Runtime.Phase.DELETED), tenant=tenant, first_ready_at__isnull=False
    ).first()
    if found is None:
        raise TicketRefused("no_machine", "The tenant has no machine that was ever ready.")
    return found


def _not_allowed() -> TicketRefused:
    return TicketRefused("not_allowed", "Only staff who may operate the tenant ask for this.")
