from axes.management.commands.axes_reset_logs import Command as Stock

from portal.recorded_commands import Within


class Command(Within, Stock):  # type: ignore[misc]
    """Lets people try again, or forgets that they did."""
