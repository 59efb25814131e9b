"""The end of an alarm: a person has looked into it, and says what they found."""

from django.core.exceptions import ValidationError
from django.db import models

from audit.context import Actor
from audit.models.append_only import Acknowledgement
from audit.personal import commit, reason_of
from audit.reasons import reason_problem


class NotAcknowledged(ValidationError):
    """The alarm stands; the message says why."""


def acknowledge(kind: type[Acknowledgement], actor: Actor, reason: str, **alarm: models.Model) -> None:
    """Store the acknowledgement of one alarm, in the caller's transaction; the caller records the entry.

    Raises:
        NotAcknowledged: somebody else was first, or the reason is too short or long.
    """
    if problem := reason_problem(reason):
        raise NotAcknowledged(problem)
    # What people write may have to be erased, and this row never can be.
    why = commit(reason_of(actor, reason.strip()))
    _, made = kind._default_manager.get_or_create(**alarm, defaults={"by": actor.id, "why": why})
    if not made:
        raise NotAcknowledged("Somebody has acknowledged this already.")
