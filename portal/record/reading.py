"""A tenant's entries, page by page, in plain words."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from audit.models import Entry, Leaf
from portal.record import people
from portal.record.asked import MAX_ID, Asked
from portal.record.words import TOPICS, sentence, topic
from tenants.models import Tenant

PAGE = 50


@dataclass(frozen=True)
class Line:
    """One entry as people see it."""

    entry: Entry
    who: str
    what: str
    topic: str
    facts: dict[str, Any]

    @property
    def index(self) -> int | None:
        """Its number in the log, from 0; None while it waits for one."""
        leaf: Leaf | None = getattr(self.entry, "leaf", None)
        return leaf.index if leaf else None

    def document(self) -> dict[str, Any]:
        """For the API."""
        return {
            "id": self.entry.pk,
            "index": self.index,
            "at": self.entry.at.isoformat(),
            "action": self.entry.action,
            "topic": self.topic,
            "who": self.who,
            "what": self.what,
            "request": self.entry.request_id,
        }


def entries_of(tenant_id: UUID) -> QuerySet[Entry]:
    """Every entry about the tenant, which the caller has found in their scope; the newest first."""
    return Entry.objects.filter(tenant_id=tenant_id).select_related("leaf").order_by("-pk")


def lines(tenant: Tenant, asked: Asked) -> tuple[list[Line], int | None]:
    """One page, and where the next begins; None at the end."""
    rows = list(asked.narrowed(entries_of(tenant.pk)).filter(pk__lt=asked.before)[: PAGE + 1])
    return told(tenant, rows[:PAGE]), rows[PAGE - 1].pk if len(rows) > PAGE else None


def told(tenant: Tenant, rows: list[Entry]) -> list[Line]:
    """Entries in words."""
    about = [facts(row) for row in rows]
    ids = {row.actor_id for row in rows if row.actor_kind == "user"}
    known = people.names(ids | {str(one["user"]) for one in about if "user" in one}, tenant)
    return [_line(row, _named(data, known), known) for row, data in zip(rows, about, strict=True)]


def line(tenant: Tenant, entry_id: int) -> Line | None:
    """One entry, if it is the tenant's."""
    return next(iter(told(tenant, list(entries_of(tenant.pk).filter(pk=entry_id)))), None)


def facts(entry: Entry) -> dict[str, Any]:
    """What its event says besides who, what and when."""
    found = json.loads(entry.event).get("data")
    return found if isinstance(found, dict) else {}


def record_page(tenant: Tenant, asked: Asked) -> dict[str, Any]:
    """What the page shows."""
    rows, following = lines(tenant, asked)
    return {
        "rows": rows,
        "next": following,
        "query": asked.query(),
        "older": asked.query(before=following),
        "asked": asked,
        "filtered": asked.narrows,
        "first_page": asked.before == MAX_ID,
        "topics": [("changes", "Changes"), *TOPICS.items(), ("", "All")],
        "labels": TOPICS,
    }


def _line(row: Entry, data: dict[str, Any], known: dict[str, str]) -> Line:
    return Line(row, people.who(row, known), sentence(row.action, data), topic(row.action), data)


def _named(data: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """The same, with a name where an event names a person by id."""
    return {**data, "user": known.get(str(data["user"]), people.FORMER)} if "user" in data else data


def entry_page(found: Line) -> dict[str, Any]:
    """What an entry's own page shows."""
    return {"line": found, "label": TOPICS.get(found.topic, ""), "facts": _readable(found.facts)}


def _readable(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts as rows: text as it is, all else as JSON."""
    return [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in sorted(found.items())
        if value not in ("", None, {}, [])
    ]
