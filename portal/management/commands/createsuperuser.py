from typing import Any

from django.contrib.auth.management.commands.createsuperuser import Command as Stock
from django.contrib.auth.models import User
from django.db import transaction

from audit import personal
from audit.context import command
from audit.services import record


class RecordingManager:
    """Stands where the stock command expects the manager of its model."""

    def __getattr__(self, name: str) -> Any:
        return getattr(User._default_manager, name)

    def db_manager(self, using: str) -> "RecordingManager":
        """There is one database."""
        return self

    @transaction.atomic
    def create_superuser(self, **given: Any) -> User:
        """The person and their entry, both or neither."""
        user = User._default_manager.create_superuser(**given)
        record(
            action="user.created",
            actor=command("createsuperuser"),
            target=("user", user.pk),
            data={"staff": True, "superuser": True},
            personal={"user": personal.username(user)},
        )
        return user


class RecordingModel:
    """The model, with that manager."""

    _default_manager = RecordingManager()

    def __getattr__(self, name: str) -> Any:
        return getattr(User, name)

    def __call__(self, **fields: Any) -> User:
        return User(**fields)


class Command(Stock):
    """Asks first, then writes the person and the entry in one transaction."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.UserModel = RecordingModel()  # type: ignore[assignment]
