from collections.abc import Callable
from typing import Any

from django.contrib.auth.management.commands.changepassword import Command as Stock
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.db import transaction

from audit import personal
from audit.context import command
from audit.services import record


class Command(Stock):
    """Asks first, then writes the password and its entry in one transaction."""

    def handle(self, *args: Any, **given: Any) -> None:
        """Change a person's password."""
        user = User.objects.filter(username=given["username"] or "").first()
        if user is None:
            raise CommandError("There is no such person. Give a user name.")
        ask: Callable[..., str] = getattr(self, "_get_pass")  # noqa: B009 - unknown to the stubs
        password = ask()
        if password != ask("Password (again): "):
            raise CommandError("The passwords differ. Run the command again.")
        try:
            validate_password(password, user)
        except ValidationError as refused:
            raise CommandError(" ".join(refused.messages)) from None
        user.set_password(password)
        with transaction.atomic():
            user.save(update_fields=["password"])
            record(
                action="user.password_changed",
                actor=command("changepassword"),
                target=("user", user.pk),
                personal={"user": personal.username(user)},
            )
        self.stdout.write("The password is changed.")
