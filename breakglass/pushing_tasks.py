"""What Celery runs so that guests believe the approvers and terms that were signed for them."""

import logging
import uuid

from celery import shared_task

from breakglass import pushing
from provisioning.driver import DriverError
from provisioning.runtime_client import AgentRefused, AgentUnreachable

log = logging.getLogger(__name__)


@shared_task(name="breakglass.pushing_tasks.approvers_apply")
def approvers_apply(runtime_id: str) -> None:
    """Deliver the sets and terms that a guest lacks; the sweeper repeats what failed."""
    try:
        pushing.apply(uuid.UUID(runtime_id))
    except (AgentUnreachable, AgentRefused, DriverError) as error:
        log.warning("runtime %s: approvers and terms not delivered: %s", runtime_id, error)


@shared_task(name="breakglass.pushing_tasks.approvers_sweep")
def approvers_sweep() -> None:
    """Send again what no guest has answered to."""
    for runtime_id in pushing.unconfirmed().values_list("pk", flat=True):
        approvers_apply.delay(str(runtime_id))
