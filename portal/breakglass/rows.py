"""Tickets as lists show them: one row a ticket, whatever the list."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet

from breakglass.models import Ticket
from portal.breakglass.words import LOOKS, STATES, path, scope

SHORT = 140
"""Characters of a reason that a list shows."""


@dataclass(frozen=True)
class Shown:
    """One ticket, as lists and pages show it to whomever."""

    ticket: Ticket

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What the requester signed, in the revision that holds."""
        return self.ticket.document

    @property
    def who(self) -> str:
        """The requester, as they signed it: with the account's name, since two may be called alike."""
        return str(self.asked["requester"]["name"])

    @property
    def paths(self) -> list[str]:
        """In words."""
        return [path(text) for text in self.asked["paths"]]

    @property
    def state(self) -> str:
        """In words."""
        return STATES.get(self.ticket.state, self.ticket.state)

    @property
    def look(self) -> str:
        """The class of its badge."""
        return LOOKS.get(self.ticket.state, "")

    @property
    def emergency(self) -> bool:
        """Whether it is of that kind."""
        return self.ticket.kind == Ticket.Kind.EMERGENCY


@dataclass(frozen=True)
class Row(Shown):
    """One of a list."""

    approved: frozenset[str]
    """Persons who have approved this revision."""

    @property
    def short(self) -> str:
        """The reason, or its beginning."""
        reason = " ".join(str(self.asked["reason"]).split())
        return reason if len(reason) <= SHORT else f"{reason[: SHORT - 1].rstrip()}…"

    @property
    def scopes(self) -> list[str]:
        """In words."""
        return [scope(code) for code in self.asked["scopes"]]


def row(ticket: Ticket) -> Row:
    """``ticket`` comes from :func:`with_all`, or asks three times."""
    approved = frozenset(one.person for one in ticket.approvals.all() if one.revision == ticket.revision)
    return Row(ticket, approved)


def rows(tickets: Iterable[Ticket]) -> list[Row]:
    """Each of them."""
    return [row(ticket) for ticket in tickets]


def with_all(tickets: QuerySet[Ticket]) -> QuerySet[Ticket]:
    """With all that a row shows, in a fixed number of queries."""
    return tickets.select_related("tenant", "requester", "approvers_set", "review").prefetch_related(
        "revisions", "approvals"
    )


def name_of(user: User) -> str:
    """As people call each other."""
    return user.get_full_name() or user.username


def names_of(persons: Iterable[str]) -> dict[str, str]:
    """``user:7`` → the name of that user; the text itself for whoever is gone."""
    wanted = {person: person.removeprefix("user:") for person in persons}
    found = User.objects.in_bulk([int(pk) for pk in wanted.values() if pk.isascii() and pk.isdigit()])
    users = {str(pk): user for pk, user in found.items()}
    return {person: name_of(users[pk]) if pk in users else person for person, pk in wanted.items()}
