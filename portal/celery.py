"""The Celery application. A task carries ids, never data; the database says what is to be done.

Who asked travels with it, signed (:mod:`audit.carrying`). A worker of this application takes the ordinary
queue; what closes somebody's access goes to another (:mod:`portal.urgent`).
"""

import os

from celery import Celery

from audit.carrying import ContextTask

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("portal", task_cls=ContextTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(related_name="pushing_tasks")
app.autodiscover_tasks(related_name="notice_tasks")
