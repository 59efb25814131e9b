from django.core.management.commands.createcachetable import Command as Stock

from portal.recorded_commands import Within


class Command(Within, Stock):
    """Makes a table."""
