from django.db import migrations

from tenants import triggers


def install(apps, schema_editor):
    triggers.install(schema_editor.connection)


def remove(apps, schema_editor):
    triggers.remove(schema_editor.connection)


class Migration(migrations.Migration):
    """The database itself refuses to change or remove what owners have signed."""

    dependencies = [("tenants", "0002_member_keys")]
    operations = [migrations.RunPython(install, remove, elidable=False)]
