from django.db import migrations

from audit import triggers


def install(apps, schema_editor):
    triggers.install(schema_editor.connection)


class Migration(migrations.Migration):
    """Triggers for every table that is written once, of one form; on SQLite against INSERT OR REPLACE too."""

    dependencies = [("audit", "0007_search_apart")]
    operations = [migrations.RunPython(install, migrations.RunPython.noop, elidable=False)]
