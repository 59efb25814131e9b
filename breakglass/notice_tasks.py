"""What Celery runs so that people hear of tickets: on the ordinary queue, but for emergencies."""

from uuid import UUID

from celery import shared_task

from breakglass import notices, sending


@shared_task(name="breakglass.notice_tasks.notices_send")
def notices_send() -> None:
    """Remind whoever has not decided, tell of reviews that are overdue, and send what is due."""
    notices.remind()
    sending.send_due()


@shared_task(name="breakglass.notice_tasks.emergency_send")
def emergency_send(ticket_id: str) -> None:
    """Send what is due of an emergency at once, behind no build; what fails is the ordinary round's."""
    sending.send_due(UUID(ticket_id))
