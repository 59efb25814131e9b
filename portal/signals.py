"""Sign-in, sign-out and failed sign-in leave an audit entry in the transaction that they happen in."""

from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.dispatch import receiver

from audit.context import Actor
from audit.services import record
from portal.refusals import refused

ANONYMOUS = Actor(kind="anonymous", id="")


@receiver(user_logged_in)
def signed_in(sender: Any, user: User, **kwargs: Any) -> None:
    """Record a sign-in. If that fails, there is none: the view's transaction is rolled back."""
    with transaction.atomic():
        record(action="session.began", actor=Actor.of(user), target=("user", user.pk))


@receiver(user_logged_out)
def signed_out(sender: Any, user: User | None, **kwargs: Any) -> None:
    """Record a sign-out."""
    if user is not None:
        with transaction.atomic():
            record(action="session.ended", actor=Actor.of(user), target=("user", user.pk))


@receiver(user_login_failed)
def sign_in_failed(sender: Any, **kwargs: Any) -> None:
    """Record a failure. Not the name that was typed: people type passwords into that field."""
    refused(action="session.refused", actor=ANONYMOUS)
