from django.db import migrations

from audit import triggers


def install(apps, schema_editor):
    triggers.install(schema_editor.connection)


def remove(apps, schema_editor):
    triggers.remove(schema_editor.connection)


class Migration(migrations.Migration):
    """The database itself refuses to change or remove audit entries."""

    dependencies = [("audit", "0001_entries")]
    operations = [migrations.RunPython(install, remove, elidable=False)]
