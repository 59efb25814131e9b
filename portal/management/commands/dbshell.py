from django.core.management.commands.dbshell import Command as Stock

from portal.recorded_commands import Before


class Command(Before, Stock):
    """What is typed into it is not recorded; that somebody opened it is."""
