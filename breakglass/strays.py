"""Grants that a guest says are open, and that are over here: it is told to end them, again.

An end that was confirmed may be undone by a volume that was set back, and a grant brought by somebody else.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from breakglass.models import Ticket
from provisioning.models import Runtime
from provisioning.runtime_client import RuntimeClient

log = logging.getLogger(__name__)
MOST = 16
"""Grants of one status; an honest guest has no more open."""


def end(runtime: Runtime, status: Mapping[str, Any], client: RuntimeClient) -> None:
    """Tell the guest to end each grant in its status that is no open ticket of this machine here.

    Raises:
        AgentUnreachable, AgentRefused: the next status tells of it again.
    """
    named = _named(status.get("grants"))
    if not named:
        return
    known = Ticket.objects.filter(pk__in=named, runtime=runtime, state__in=Ticket.OPEN)
    for stray in sorted(named - set(known.values_list("pk", flat=True))):
        log.critical("runtime %s: ticket %s is over here, and open there", runtime.pk, stray)
        client.end_grant(str(stray))


def _named(grants: Any) -> set[UUID]:
    found = set()
    for one in grants[:MOST] if isinstance(grants, list) else []:
        if isinstance(one, str):
            with suppress(ValueError):
                found.add(UUID(one))
    return found
