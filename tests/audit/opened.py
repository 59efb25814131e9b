"""What an entry says to somebody who may open its personal data."""

import json

from audit.models import Entry
from audit.personal import openings


def opened(entry: Entry) -> dict[str, str]:
    """Values by their role in the event, without what was erased."""
    found = openings([json.loads(entry.event)])[0]
    return {role: opening.value for role, opening in found.items() if opening is not None}
