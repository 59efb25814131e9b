from django.db import migrations

from breakglass import triggers


def install(apps, schema_editor):
    triggers.install(schema_editor.connection)


def remove(apps, schema_editor):
    triggers.remove(schema_editor.connection)


class Migration(migrations.Migration):
    """The database itself keeps tickets to their course, and what was signed as it is."""

    dependencies = [("breakglass", "0001_tickets")]
    operations = [migrations.RunPython(install, remove, elidable=False)]
