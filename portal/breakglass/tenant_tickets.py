"""A tenant's tickets as its own people may know them: all of it, and what each reader can do next."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from breakglass.models import Receipt, Revision, Ticket
from breakglass.selectors import tickets_for
from portal.breakglass.deeds import SHOWN, Deed, deeds
from portal.breakglass.rows import Shown, names_of
from portal.breakglass.words import SCOPES, duration, path, scope
from protocol.approvers import ApproversError, ApproverSet
from tenants.models import MemberKey, Tenant
from tenants.selectors import Person, current_keyring, is_owner, keys_of

PAGE = 25
State = Ticket.State


def tickets_of(user: Person, tenant: Tenant) -> QuerySet[Ticket]:
    """The tenant's tickets, the newest first; ``tenant`` is in the caller's scope, and so is each of them."""
    touched = (
        Receipt.objects.filter(ticket_id=OuterRef("pk"), runtime=OuterRef("runtime"), event="access")
        .order_by()
        .values("ticket_id")
        .annotate(count=Count("pk"))
        .values("count")
    )
    return (
        tickets_for(user)
        .filter(tenant=tenant)
        .select_related("ended_by", "review__closed_by")
        .prefetch_related("approvals", "rejections", "owner_approvals")
        .annotate(touched=Coalesce(Subquery(touched, output_field=IntegerField()), Value(0)))
    )


@dataclass(frozen=True)
class Told(Shown):
    """One ticket; it comes from :func:`tickets_of`."""

    @property
    def scopes(self) -> list[tuple[str, str]]:
        """What each opens: its name, and in more words."""
        return [SCOPES.get(code, (code, "")) for code in self.asked["scopes"]]

    @property
    def scope_names(self) -> list[str]:
        """The names only."""
        return [scope(code) for code in self.asked["scopes"]]

    @property
    def length(self) -> str:
        """How long access is asked for."""
        return duration(self.ticket.seconds)

    @property
    def touched(self) -> int:
        """How many requests the machine has served, by the receipts that have come in."""
        return int(getattr(self.ticket, "touched", 0))

    @property
    def approved_by(self) -> list[str]:
        """Who has approved the revision that holds, as their set names them."""
        signed = [one.person for one in self.ticket.approvals.all() if one.revision == self.ticket.revision]
        names = _names(self.ticket)
        return sorted(names.get(person, person) for person in signed)

    @property
    def missing(self) -> int:
        """How many more must approve, while it waits for that."""
        waits = self.ticket.state == State.PENDING
        return max(0, self.ticket.needed - len(self.approved_by)) if waits else 0

    @property
    def names(self) -> dict[str, str]:
        """Person → name of everybody who has signed: as the set names them, else as the portal does."""
        ticket = self.ticket
        signed = {one.person for one in ticket.owner_approvals.all()}
        signed |= {one.person for one in (*ticket.approvals.all(), *ticket.rejections.all())}
        return names_of(signed) | _names(ticket)

    @property
    def shown(self) -> str:
        """What the page around the live part depends on."""
        return f"{self.ticket.revision}-{self.ticket.state}-{self.owner_agreed:d}"

    @property
    def owner_agreed(self) -> bool:
        """Whether one of the tenant's owners has signed this revision."""
        return any(one.revision == self.ticket.revision for one in self.ticket.owner_approvals.all())

    @property
    def waits_for_owner(self) -> bool:
        """Whether nothing happens before an owner signs."""
        return self.ticket.needs_owner and self.ticket.state == State.PENDING and not self.owner_agreed

    @property
    def settled(self) -> bool:
        """Whether the machine has said that it is over, or never had it."""
        return self.ticket.started_at is None or self.ticket.end_confirmed_at is not None

    @property
    def ended_by(self) -> str:
        """Who ended it: one of the tenant's own, or somebody of staff; empty: the clock."""
        if self.ticket.ended_by is None:
            return ""
        return self.who if self.ticket.ended_by_id == self.ticket.requester_id else _called(self.ticket)

    @property
    def review(self) -> Any:
        """What the requester owes or has written; None before the end."""
        return getattr(self.ticket, "review", None)

    def document(self) -> dict[str, Any]:
        """For the API."""
        ticket = self.ticket
        moments = ("asked_at", "wait_until", "approved_at", "started_at", "access_until", "ended_at")
        return {
            "id": str(ticket.pk),
            "kind": ticket.kind,
            "state": ticket.state,
            "revision": ticket.revision,
            "requester": self.who,
            "reason": self.asked["reason"],
            "incident": self.asked["incident"],
            "scopes": self.asked["scopes"],
            "paths": self.asked["paths"],
            "seconds": ticket.seconds,
            **{name: _moment(getattr(ticket, name)) for name in moments},
            "ending": ticket.ending,
            "ended_by": self.ended_by,
            "needed": ticket.needed,
            "approved_by": self.approved_by,
            "needs_owner": ticket.needs_owner,
            "owner_agreed": self.owner_agreed,
            "requests": self.touched,
            "delivered_at": _moment(ticket.delivered_at),
            "end_confirmed_at": _moment(ticket.end_confirmed_at),
            "review": self.review.text if self.review else "",
        }

    def signed(self) -> dict[str, Any]:
        """Documents and signatures, so that whoever reads can check them without us."""
        ticket = self.ticket
        approvals = [one for one in ticket.approvals.all() if one.revision == ticket.revision]
        owners = [one for one in ticket.owner_approvals.all() if one.revision == ticket.revision]
        return {
            "revisions": [
                {
                    "revision": one.revision,
                    "document": one.document,
                    "digest": one.digest,
                    "signature": one.signature,
                    "at": one.at.isoformat(),
                }
                for one in ticket.revisions.all()
            ],
            "approvals": [one.signature for one in approvals],
            "owner": owners[0].signature if owners else None,
            "approvers": ticket.approvers_set.document,
        }


def done_under(ticket: Ticket, most: int = SHOWN) -> tuple[list[Deed], int]:
    """What was done under ``ticket``, the newest line first, and how many receipts there are."""
    rows = Receipt.objects.filter(runtime=ticket.runtime_id, ticket_id=ticket.pk)
    newest = list(rows.order_by("-seq")[: 2 * most])
    return deeds(reversed(newest))[::-1][:most], rows.count() if len(newest) == 2 * most else len(newest)


def owner_keys(user: User, tenant: Tenant) -> list[MemberKey]:
    """The passkeys with which ``user`` signs as an owner: those that the keyring in force names as such."""
    keyring = current_keyring(tenant)
    owners = {
        fingerprint: member
        for fingerprint, member in (keyring.members.items() if keyring else ())
        if member.role == "owner"
    }
    own = keys_of(tenant).filter(user=user, kind=MemberKey.Kind.PASSKEY)
    return [key for key in own if key.fingerprint in owners]


def may(user: Person, told: Told) -> frozenset[str]:
    """What ``user`` may do with a ticket now; the services decide again."""
    if not is_owner(user, told.ticket.tenant):
        return frozenset()
    table = {"approve": told.waits_for_owner, "revoke": told.ticket.open}
    return frozenset(name for name, holds in table.items() if holds)


def history(told: Told) -> Iterator[tuple[Revision, list[tuple[str, str, str]]]]:
    """For each revision but the first, the newest first: what it changed, as name, before and after."""
    names = {"reason": "reason", "incident": "incident", "scopes": "what", "paths": "where"}
    names |= {"seconds": "how long", "kind": "kind"}
    found = list(told.ticket.revisions.all())
    for newer, older in pairwise(found):
        changed = [
            (words, _shown(name, older.document[name]), _shown(name, newer.document[name]))
            for name, words in names.items()
            if older.document[name] != newer.document[name]
        ]
        yield newer, changed


def _shown(name: str, value: Any) -> str:
    if name == "scopes":
        return ", ".join(scope(code) for code in value)
    if name == "paths":
        return ", ".join(path(text) for text in value) or "nowhere"
    return duration(value) if name == "seconds" else str(value) or "none"


def _names(ticket: Ticket) -> dict[str, str]:
    try:
        document = ApproverSet.parse(ticket.approvers_set.document).document
    except ApproversError:
        return {}
    return {one["person"]: one["name"] for one in document["approvers"]}


def _called(ticket: Ticket) -> str:
    """Staff by what they are, unless their set names them; a tenant's own people by name."""
    user = ticket.ended_by
    if user is None:
        return ""
    named = _names(ticket).get(f"user:{user.pk}")
    return named or ("Staff" if user.is_staff else user.get_full_name() or user.username)


def _moment(at: Any) -> str | None:
    return at.isoformat() if at else None
