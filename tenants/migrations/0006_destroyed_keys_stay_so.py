from django.db import migrations

from tenants import key_triggers


def install(apps, schema_editor):
    key_triggers.install(schema_editor.connection)


def remove(apps, schema_editor):
    key_triggers.remove(schema_editor.connection)


class Migration(migrations.Migration):
    """The database itself refuses to bring a destroyed tenant key back, or to drop its row."""

    dependencies = [("tenants", "0005_connector_secrets")]
    operations = [migrations.RunPython(install, remove, elidable=False)]
