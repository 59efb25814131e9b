"""What Celery runs so that people hear of tickets, on the ordinary queue: nothing urgent waits behind it."""

from celery import shared_task

from breakglass import notices, sending


@shared_task(name="breakglass.notice_tasks.notices_send")
def notices_send() -> None:
    """Remind whoever has not decided, tell of reviews that are overdue, and send what is due."""
    notices.remind()
    sending.send_due()
