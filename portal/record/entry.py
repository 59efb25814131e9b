"""An entry's own page: its facts, what its commitments stand for, and its proof."""

import json
from typing import Any

from audit.models import PersonalDatum
from portal.record import openings
from portal.record.heads import head
from portal.record.reading import Line
from portal.record.words import TOPICS
from tenants.models import Tenant
from tenants.selectors import Person

LABELS = {"reason": "Reason", "address": "Address", "username": "Name", "name": "Tenant's name"}


def entry_page(reader: Person, tenant: Tenant, found: Line) -> dict[str, Any]:
    """What the page shows to this reader."""
    (mine,) = openings.visible(reader, tenant, [found.entry])
    newest = head(tenant, holding=found.index + 1) if found.index is not None else None
    return {
        "line": found,
        "label": TOPICS.get(found.topic, ""),
        "facts": [*map(_opened, mine), *_readable(found.facts)],
        "head": newest,
        "own": newest is not None and any(one.own for one in newest.witnesses),
        "event": _verbatim(found.entry.event),
    }


def _verbatim(event: str) -> str:
    """For people; empty for an entry whose words stand in an archive."""
    return json.dumps(json.loads(event), indent=2, ensure_ascii=False) if event else ""


def _opened(one: PersonalDatum) -> tuple[str, str]:
    return LABELS.get(one.kind, one.kind), one.shown


def _readable(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts as rows: text as it is, all else as JSON."""
    return [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in sorted(found.items())
        if value not in ("", None, {}, [])
    ]
