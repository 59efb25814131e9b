"""What one person sees of one ticket, and what they may do with it. The services decide again."""

import json
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone

from breakglass.models import PERSON, Passkey, Ticket
from breakglass.selectors import (
    Eligible,
    approvers_of,
    emergency_debt,
    is_approver,
    keys_of_person,
    may_approve,
    recent_of,
)
from portal.breakglass.rows import Row, names_of, row, rows, with_all
from portal.breakglass.timeline import timeline
from portal.breakglass.words import SCOPES, duration
from tenants.selectors import is_operator

PLAIN = ("start", "open", "end", "withdraw")
"""Deeds that are one press of a button in the live part; their forms stand outside of it."""
State = Ticket.State
REFUSALS = {
    "no_approvers": "No owner has named approvers to it yet. Ask one to, then ask for access anew.",
    "wrong_set": "It holds another set of approvers. Ask for access anew once it has the one in force.",
    "closed": "Its owner has closed this way in. Ask them.",
    "owner_missing": "Its owner must agree too. Ask for access anew, and ask them.",
    "too_late": "It came after its waiting time. Ask for access anew.",
}
"""The guest's code → what to do."""


def full(tickets: QuerySet[Ticket]) -> QuerySet[Ticket]:
    """With all that the page shows."""
    return (
        with_all(tickets)
        .select_related("runtime", "passkey", "ended_by", "review__closed_by")
        .prefetch_related("rejections", "owner_approvals")
    )


@dataclass(frozen=True)
class Part:
    """Who looks, at what."""

    user: User
    ticket: Ticket
    able: list[Eligible]
    """Who may approve it now."""
    deeds: frozenset[str]
    """What the reader may do now: names of the routes behind the buttons."""
    owes: bool
    """It waits, and its requester owes the review of an emergency first."""

    @property
    def shown(self) -> str:
        """What the page around the live part depends on; if it changes, the page is fetched anew."""
        return "-".join([str(self.ticket.revision), *sorted(self.deeds)])


def part(user: User, ticket: Ticket) -> Part:
    """``ticket`` comes from :func:`full`, in the reader's scope."""
    able = may_approve(ticket)
    asks = ticket.requester_id == user.pk and ticket.state in Ticket.WAITING
    owes = asks and emergency_debt(user) is not None
    return Part(user, ticket, able, frozenset(_deeds(user, ticket, able, owes)), owes)


def signing_keys(user: User, ticket: Ticket) -> list[Passkey]:
    """The passkeys with which ``user`` approves or rejects: those that the ticket's set names."""
    named = approvers_of(ticket.approvers_set)
    return [key for key in keys_of_person(user) if named and key.fingerprint in named.approvers]


def ticket_page(seen: Part) -> dict[str, Any]:
    """The whole page's context; ``live`` says what the live part needs alone."""
    ticket = seen.ticket
    document = ticket.document
    return live_part(seen) | {
        "document": document,
        "length": duration(ticket.seconds),
        "asked_scopes": [(code, *SCOPES.get(code, (code, ""))) for code in document["scopes"]],
        "recent": rows(recent_of(ticket.tenant, ticket).prefetch_related("approvals")),
        "verbatim": json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True),
        "plain": [deed for deed in PLAIN if deed in seen.deeds],
        "overdue": _review_is_due(ticket),
        "digest": next(one.digest for one in ticket.revisions.all() if one.revision == ticket.revision),
    }


def live_part(seen: Part) -> dict[str, Any]:
    """What changes while somebody looks; the same for the same reader until a fact changes."""
    ticket = seen.ticket
    shown: Row = row(ticket)
    verdicts = [one.person for one in (*ticket.approvals.all(), *ticket.rejections.all())]
    names = names_of(verdicts + [one.person for one in ticket.owner_approvals.all()])
    return {
        "row": shown,
        "ticket": ticket,
        "tenant": ticket.tenant,
        "deeds": seen.deeds,
        "shown": seen.shown,
        "mine": ticket.requester_id == seen.user.pk,
        "approved_by": sorted(names[person] for person in shown.approved),
        "missing": max(0, ticket.needed - len(shown.approved)),
        "able": [one.name for one in seen.able if not one.approved],
        "owner_agreed": any(one.revision == ticket.revision for one in ticket.owner_approvals.all()),
        "events": timeline(ticket, names),
        "who": shown.who,
        "next": _next(seen),
        "settling": ticket.delivered_at and ticket.ended_at and not ticket.end_confirmed_at,
        "refusal": REFUSALS.get(ticket.delivery_refused, "Ask whoever runs the portal."),
    }


def _next(seen: Part) -> str:
    """One sentence for the reader: what they can do next, or what the ticket waits for."""
    ticket, deeds = seen.ticket, seen.deeds
    active = ticket.state == State.ACTIVE
    mine = ticket.requester_id == seen.user.pk
    table = [
        ("approve" in deeds, "Read what is asked, then decide below."),
        (seen.owes, "Before anything else: end your emergency access, and write its review."),
        (ticket.state == State.PENDING, "It can begin once enough people have approved it."),
        ("start" in deeds, f"Begin when you are ready: then {duration(ticket.seconds)} run."),
        (ticket.state == State.APPROVED, "It begins when its requester begins it."),
        (mine and active, "The machine asks for your passkey once more. End it as soon as you are done."),
        (active, f"{row(ticket).who} can reach the machine now."),
        ("review" in deeds, "Write a short review below: what you found, what you did."),
        (mine, "Ask anew if you need access again."),
    ]
    return next((words for holds, words in table if holds), "It can never be used again.")


def _review_is_due(ticket: Ticket) -> bool:
    review = getattr(ticket, "review", None)
    return review is not None and review.closed_at is None and review.due_at <= timezone.now()


def _deeds(user: User, ticket: Ticket, able: list[Eligible], owes: bool) -> list[str]:
    """The rows whose condition holds."""
    mine = ticket.requester_id == user.pk
    waiting, active = ticket.state in Ticket.WAITING, ticket.state == State.ACTIVE
    me = next((one for one in able if one.person == PERSON % user.pk), None)
    undecided = me is not None and not me.approved and ticket.state == State.PENDING
    review = getattr(ticket, "review", None)
    table = [
        ("edit", mine and waiting and not owes),
        ("withdraw", mine and waiting),
        ("start", mine and ticket.state == State.APPROVED and not owes),
        ("open", mine and active and ticket.delivered_at),
        ("end", mine and active),
        ("approve", undecided),
        ("reject", undecided),
        ("revoke", ticket.open and not mine and (is_approver(user) or is_operator(user, ticket.tenant))),
        ("review", mine and ticket.ended_at and review is not None and review.closed_at is None),
    ]
    return [name for name, holds in table if holds]
