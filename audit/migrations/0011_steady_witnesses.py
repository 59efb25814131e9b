from django.db import migrations

from audit import triggers


def install(apps, schema_editor):
    triggers.install(schema_editor.connection)


class Migration(migrations.Migration):
    """A witness keeps its name, key and place, and one that is retired stays so."""

    dependencies = [("audit", "0010_fitting_entries")]
    operations = [migrations.RunPython(install, migrations.RunPython.noop, elidable=False)]
