"""Stock management commands that change something, with their entry.

:class:`Within` is for those that can share one transaction with it; :class:`Before` for those that cannot
(a shell has no end to wait for): what they are is on record before they do anything.
"""

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand
from django.db import transaction

from audit.context import command
from audit.services import record

if TYPE_CHECKING:
    _Command = BaseCommand
else:
    _Command = object


def note(name: str, verb: str, **data: Any) -> None:
    """One entry, by the command itself. Its arguments may be anybody's text and are not kept."""
    with transaction.atomic():
        record(action=f"command.{verb}", actor=command(name), target=("command", name), data=data)


class Within(_Command):
    """The command and its entry in one transaction."""

    def handle(self, *args: Any, **given: Any) -> Any:
        """Both or neither."""
        with transaction.atomic():
            note(self.__module__.rpartition(".")[2], "ran")
            return super().handle(*args, **given)


class Before(_Command):
    """The entry is committed first; without it the command does not begin."""

    def handle(self, *args: Any, **given: Any) -> Any:
        """One, then the other."""
        note(self.__module__.rpartition(".")[2], "began")
        return super().handle(*args, **given)
