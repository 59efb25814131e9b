from guardian.management.commands.clean_orphan_obj_perms import Command as Stock

from portal.recorded_commands import Within


class Command(Within, Stock):
    """Deletes rights on rows that are gone."""
