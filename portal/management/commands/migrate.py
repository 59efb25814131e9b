from typing import Any

from django.core.management.commands.migrate import Command as Stock
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from portal.recorded_commands import note


class Command(Stock):
    """Each migration is a transaction of its own; what was applied or taken back is one entry after them.

    The tests' runner builds its databases with ``run_syncdb``: there is nobody to tell there.
    """

    def handle(self, *args: Any, **given: Any) -> None:
        """Migrate, then record."""
        recorder = MigrationRecorder(connections[given["database"]])
        before = set(recorder.applied_migrations())
        super().handle(*args, **given)
        after = set(recorder.applied_migrations())
        if before != after and not given["run_syncdb"]:
            note("migrate", "ran", applied=_names(after - before), undone=_names(before - after))


def _names(migrations: set[tuple[str, str]]) -> list[str]:
    return sorted(f"{app}.{name}" for app, name in migrations)
