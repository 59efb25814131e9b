from django.core.management.commands.dumpdata import Command as Stock

from portal.recorded_commands import Before


class Command(Before, Stock):
    """Reads every table."""
