from django.contrib.contenttypes.management.commands.remove_stale_contenttypes import Command as Stock

from portal.recorded_commands import Within


class Command(Within, Stock):
    """Deletes permissions of models that are gone."""
