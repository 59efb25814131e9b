"""What the urgent worker runs (docs/adr/0040-urgent-queue.md). The rows say what is to be done."""

import logging
import uuid
from typing import Any

from celery import shared_task
from django.conf import settings
from django.db.models import QuerySet

from breakglass import comparing, grants, receipts
from breakglass.pacing import PACE
from breakglass.services.endings import tickets_expire
from provisioning.runtime_client import AgentRefused, AgentUnreachable

log = logging.getLogger(__name__)


@shared_task(name="breakglass.tasks.grant_apply")
def grant_apply(ticket_id: str, repeated: bool = False) -> None:
    """Bring a ticket's grant, or its end, to the guest; the sweep repeats what failed."""
    try:
        grants.apply(uuid.UUID(ticket_id), repeated=repeated)
    except (AgentUnreachable, AgentRefused) as error:
        log.warning("ticket %s: not carried to its guest: %s", ticket_id, error)


@shared_task(name="breakglass.tasks.receipts_fetch")
def receipts_fetch(runtime_id: str) -> None:
    """Take in a guest's receipts; the sweep repeats what failed."""
    try:
        receipts.fetch(uuid.UUID(runtime_id))
    except (AgentUnreachable, AgentRefused) as error:
        log.warning("runtime %s: its receipts are not read: %s", runtime_id, error)


@shared_task(name="breakglass.tasks.access_sweep")
def access_sweep() -> None:
    """Close what is over, send again what no guest has answered to, and compare intents with receipts."""
    # First what needs no guest: from here on the portal signs nothing more for what is over.
    for part in (tickets_expire, _send_tickets, _send_fetches, comparing.note_missing):
        try:
            part()
        except Exception:
            log.exception("a part of the sweep of access failed; the others go on")


def _send_tickets() -> None:
    for asked in (grants.unended(), grants.undelivered()):
        _send(asked.values_list("pk", flat=True))


def _send_fetches() -> None:
    for runtime_id in receipts.due().values_list("pk", flat=True):
        if PACE.due("receipts", runtime_id):
            receipts_fetch.apply_async((str(runtime_id),), expires=2 * settings.BREAK_GLASS_SECONDS)


def _send(tickets: "QuerySet[Any, uuid.UUID]") -> None:
    for ticket_id in tickets:
        # One that waits behind others is not worth sending twice.
        grant_apply.apply_async((str(ticket_id), True), expires=2 * settings.BREAK_GLASS_SECONDS)
