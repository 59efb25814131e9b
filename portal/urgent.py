"""The worker of the urgent queue: ``celery -A portal.urgent worker``.

Which tasks go there says ``CELERY_TASK_ROUTES``: those that end somebody's way to a guest, and those that the
end waits for. Why they have a process of their own: docs/adr/0040-urgent-queue.md. Ends are also carried
without any message, from before the worker has found its broker (:mod:`breakglass.carrying`).
"""

from typing import Any

from celery.signals import celeryd_after_setup, celeryd_init, worker_shutdown
from django.conf import settings

from portal.celery import app


@celeryd_init.connect
def serve_urgent_queue(**_: Any) -> None:
    """A worker of this application takes messages of the urgent queue alone."""
    app.amqp.queues.select([settings.URGENT_QUEUE])


@celeryd_after_setup.connect
def carry_ends(**_: Any) -> None:
    """A worker that starts carries ends from now on, whether its broker answers or not."""
    from breakglass.carrying import Carrier  # models are there by now

    carrier = Carrier()
    worker_shutdown.connect(lambda **_: carrier.stop(), weak=False)
    carrier.start()
