from django.core.management.commands.loaddata import Command as Stock

from portal.recorded_commands import Within


class Command(Within, Stock):
    """Writes any table."""
