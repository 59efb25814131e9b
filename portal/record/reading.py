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
MAX_RECEIPTS = 10_000
"""In one download."""


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
    events = [event_of(row) for row in rows]
    known = people.names({one for event in events for one in people.mentioned(event)}, tenant)
    return [_line(row, event, known) for row, event in zip(rows, events, strict=True)]


def line(tenant: Tenant, entry_id: int) -> Line | None:
    """One entry, if it is the tenant's."""
    return next(iter(told(tenant, list(entries_of(tenant.pk).filter(pk=entry_id)))), None)


def record_page(tenant: Tenant, asked: Asked, *, shown: bool = True) -> dict[str, Any]:
    """What the page shows; no rows to a question that was not understood."""
    rows, following = lines(tenant, asked) if shown else ([], None)
    return {
        "rows": rows,
        "next": following,
        "query": asked.query(),
        "older": asked.query(before=following),
        "asked": asked,
        "filtered": asked.narrows,
        "limit": MAX_RECEIPTS,
        "first_page": asked.before == MAX_ID,
        "topics": [("changes", "Changes"), *TOPICS.items(), ("", "All")],
        "labels": TOPICS,
    }


def _line(row: Entry, event: dict[str, Any], known: dict[str, str]) -> Line:
    found = event.get("data")
    data = found if isinstance(found, dict) else {}
    if "user" in data:
        data = {**data, "user": known.get(str(data["user"]), people.FORMER)}
    return Line(row, people.who(event, known), sentence(row.action, data), topic(row.action), data)


def event_of(row: Entry) -> dict[str, Any]:
    """What it says; of an entry whose words stand in an archive, what its columns still say."""
    if row.event:
        return dict(json.loads(row.event))
    return {"actor": {"kind": row.actor_kind, "id": row.actor_id}, "data": {}}


def _readable(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts as rows: text as it is, all else as JSON."""
    return [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in sorted(found.items())
        if value not in ("", None, {}, [])
    ]
