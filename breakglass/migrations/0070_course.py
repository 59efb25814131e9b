from django.db import migrations, models

from breakglass import triggers


def install(apps, schema_editor):
    triggers.install(schema_editor.connection)


def nothing(apps, schema_editor):
    """The triggers of before are made by the same module."""


class Migration(migrations.Migration):
    """The database counts approvals itself, and keeps reviews, proposals and evidence.

    The field comes first: SQLite makes its table anew, without the triggers.
    """

    dependencies = [("breakglass", "0010_namings_told")]
    operations = [
        migrations.AlterField(
            model_name="rejection",
            name="words",
            field=models.TextField(
                blank=True, max_length=500, help_text="Why, for the requester and the tenant."
            ),
        ),
        migrations.RunPython(install, nothing, elidable=False),
    ]
