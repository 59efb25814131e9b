"""What ends access has a queue and a worker of its own: it waits behind nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from portal.celery import app

ROOT = Path(__file__).resolve().parents[2]
_TELL = """
import json
from {module} import app
worker = app.Worker()
# Older Celery added each queue that a process sent to, and consumed it after the next reconnection.
for task in ("breakglass.tasks.grant_apply", "provisioning.tasks.operation_run"):
    app.amqp.router.route({{}}, task)
print(json.dumps(sorted(app.amqp.queues.consume_from)))
"""


def served_by(module: str) -> list[str]:
    """The queues that a worker of ``module`` takes messages from, after it has sent some itself."""
    done = subprocess.run(
        [sys.executable, "-c", _TELL.format(module=module)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("module", "queue"),
    [("portal.celery", "CELERY_TASK_DEFAULT_QUEUE"), ("portal.urgent", "URGENT_QUEUE")],
)
def test_a_worker_takes_its_own_queue_alone(module: str, queue: str) -> None:
    assert served_by(module) == [getattr(settings, queue)]


def test_every_urgent_task_exists_and_goes_to_the_urgent_queue() -> None:
    app.loader.import_default_modules()
    assert set(settings.URGENT_TASKS) <= set(app.tasks)
    for name in settings.URGENT_TASKS:
        assert app.amqp.router.route({}, name)["queue"].name == settings.URGENT_QUEUE
    usual = app.amqp.router.route({}, "provisioning.tasks.operation_run")
    assert usual["queue"].name == settings.CELERY_TASK_DEFAULT_QUEUE


def test_the_sweep_of_access_is_urgent_and_short_lived() -> None:
    """One that waited is worth nothing: the next does its work."""
    entry = settings.CELERY_BEAT_SCHEDULE["access-sweep"]
    assert entry["task"] in settings.URGENT_TASKS
    assert entry["options"] == {"expires": 2 * settings.BREAK_GLASS_SECONDS}
