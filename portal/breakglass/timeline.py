"""A ticket's story, from the rows that it has left; the newest last."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from breakglass.models import Ticket
from portal.breakglass.rows import name_of

ENDS = {
    "ended": "{who} was done",
    "expired": "The time was over",
    "revoked": "{who} revoked it",
    "rejected": "{who} rejected it",
    "withdrawn": "{who} withdrew it",
    "timed_out": "It had waited too long",
}


@dataclass(frozen=True)
class Event:
    """One thing that happened, and what somebody said about it."""

    at: datetime
    what: str
    words: str = ""


def timeline(ticket: Ticket, names: dict[str, str]) -> list[Event]:
    """``names``: person → name. The ticket comes with its revisions and verdicts fetched."""
    return sorted(_events(ticket, names), key=lambda event: event.at)


def _events(ticket: Ticket, names: dict[str, str]) -> Iterator[Event]:
    who = str(ticket.document["requester"]["name"])
    for revision in ticket.revisions.all():
        yield Event(revision.at, f"{who} asked" if revision.revision == 1 else f"{who} changed the request")
    for approval in ticket.approvals.all():
        void = "" if approval.revision == ticket.revision else ", before it was changed"
        yield Event(approval.at, f"{names.get(approval.person, approval.person)} approved{void}")
    for owner in ticket.owner_approvals.all():
        void = "" if owner.revision == ticket.revision else ", before it was changed"
        yield Event(owner.at, f"{names.get(owner.person, owner.person)} agreed as the tenant's owner{void}")
    if ticket.started_at:
        yield Event(ticket.started_at, f"{who} began")
    if ticket.delivered_at:
        yield Event(ticket.delivered_at, "The machine let it in")
    yield from _ending(ticket)
    review = getattr(ticket, "review", None)
    if review is not None and review.closed_at is not None:
        yield Event(review.closed_at, f"{name_of(review.closed_by)} wrote the review", review.text)


def _ending(ticket: Ticket) -> Iterator[Event]:
    if ticket.ended_at:
        ended_by = name_of(ticket.ended_by) if ticket.ended_by else "The portal"
        said = " ".join(one.words for one in ticket.rejections.all())
        yield Event(ticket.ended_at, ENDS.get(ticket.state, "It is over").format(who=ended_by), said)
    if ticket.end_confirmed_at:
        yield Event(ticket.end_confirmed_at, "The machine says that it is over")
