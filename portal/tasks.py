"""What Celery runs for the portal itself."""

from celery import shared_task

from portal.refusals import write_counts


@shared_task(name="portal.tasks.refusals_count")
def refusals_count() -> None:
    """Write down how many refusals were only counted."""
    write_counts()
