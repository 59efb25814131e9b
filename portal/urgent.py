"""The worker of the urgent queue: ``celery -A portal.urgent worker``.

Which tasks go there says ``CELERY_TASK_ROUTES``: those that end somebody's way to a guest, and those that the
end waits for. Why they have a process of their own: docs/adr/0040-urgent-queue.md.
"""

from typing import Any

from celery.signals import celeryd_init
from django.conf import settings

from portal.celery import app


@celeryd_init.connect
def serve_urgent_queue(**_: Any) -> None:
    """A worker of this application takes messages of the urgent queue alone."""
    app.amqp.queues.select([settings.URGENT_QUEUE])
