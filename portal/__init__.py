"""The face and the frame. Imports the Celery app so that tasks are bound to it in every process."""

from portal.celery import app as celery_app

__all__ = ["celery_app"]
