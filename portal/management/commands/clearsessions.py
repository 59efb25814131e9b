from django.contrib.sessions.management.commands.clearsessions import Command as Stock

from portal.recorded_commands import Within


class Command(Within, Stock):
    """Forgets sessions that have ended."""
